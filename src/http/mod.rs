//! Floor `http`: empty in the skeleton.
