//! Floor `crypto`: empty in the skeleton.
