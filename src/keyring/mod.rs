//! Floor `keyring`: empty in the skeleton.
