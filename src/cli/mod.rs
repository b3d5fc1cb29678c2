//! Floor `cli`: empty in the skeleton.
