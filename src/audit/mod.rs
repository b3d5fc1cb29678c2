//! Floor `audit`: empty in the skeleton.
