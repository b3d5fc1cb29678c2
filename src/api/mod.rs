//! Floor `api`: empty in the skeleton.
