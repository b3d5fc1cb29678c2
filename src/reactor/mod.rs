//! Floor `reactor`: empty in the skeleton.
