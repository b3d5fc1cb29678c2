//! Floor `auth`: empty in the skeleton.
