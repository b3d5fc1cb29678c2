//! Floor `store`: empty in the skeleton.
