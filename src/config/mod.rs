//! Floor `config`: empty in the skeleton.
