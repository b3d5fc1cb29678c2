//! Which file holds the master key.
//!
//! Owns the answer, for every command. Invariants: what was given by name wins; else it is the credential that
//! systemd hands over, if there is one; nothing here opens a file that holds a secret.

use std::path::{Path, PathBuf};

/// The variable in which systemd names the directory of a service's credentials.
pub(super) const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The credential's name: `LoadCredential=quantonium-master-key:/path`.
pub const MASTER_KEY_CREDENTIAL: &str = "quantonium-master-key";

/// The file that was `given`, else the credential in `credentials`, else none.
///
/// A credential that is there but cannot be looked at is returned: whoever reads it says what is wrong.
pub(super) fn resolve(given: Option<PathBuf>, credentials: Option<&Path>) -> Option<PathBuf> {
    given.or_else(|| {
        let path = credentials?.join(MASTER_KEY_CREDENTIAL);
        let missing =
            path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        (!missing).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_wins_over_the_credential_and_the_credential_over_nothing() {
        let folder = std::env::temp_dir().join(format!("quantonium-credentials-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let given = || Some(PathBuf::from("/given"));
        assert_eq!(resolve(None, None), None);
        assert_eq!(resolve(None, Some(&folder)), None, "no such credential");
        let credential = folder.join(MASTER_KEY_CREDENTIAL);
        std::fs::write(&credential, "").unwrap();
        let found = resolve(None, Some(&folder));
        let named = resolve(given(), Some(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Some(credential));
        assert_eq!(named, given());
        assert_eq!(resolve(given(), None), given());
    }
}
