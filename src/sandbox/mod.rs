//! Floor `sandbox`: empty in the skeleton.
