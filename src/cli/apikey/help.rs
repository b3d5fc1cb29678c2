//! The help on `quantonium apikey` and on each of its commands.
//!
//! Owns the texts. Invariants are those of the whole help: no line is wider than 100 characters, and each command is shown
//! with a line that can be run.

use super::Verb;

/// On all of them.
pub(in crate::cli) const APIKEY: &str = "\
quantonium apikey: API keys: who may do what, how often, from where and until when.

  quantonium apikey create --name NAME --scope SCOPE ...   make one; its secret is shown once
  quantonium apikey list                 show all of them
  quantonium apikey show ID              show one
  quantonium apikey rotate ID            give one another secret
  quantonium apikey revoke ID            end one, and its tokens, at once
  quantonium apikey configure ID ...     change what one may do
  quantonium apikey delete ID            forget one that has ended

A running server is asked over HTTP, with an API key that may do it:
  quantonium apikey list --api-key-file admin.key [--server http://127.0.0.1:8080]

The store of a stopped server is changed directly; the master key is all it takes. So a lost admin
key is replaced:
  quantonium apikey create --name admin --scope admin --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key > admin.key

Flags of each:
  --server URL             the running server; default: where this configuration has it listen
  --tls-ca FILE            who signs its certificate; default: the --tls-cert configured here itself
  --api-key-file FILE      the API key to ask it with; default: QUANTONIUM_API_KEY_FILE
  --data-dir DIR           work on the store of a stopped server instead
  --master-key-file FILE, --min-store-revision N, --config FILE   go with --data-dir
  --json                   answer in JSON, with the members of docs/API.md

ID is the 8 digits behind qk_. A new secret goes to standard output alone, once, so that it can be
sent into a file; the rest goes to standard error. Scopes are `admin`, or a permission with or
without the keys it is about, * standing for any characters: encrypt, decrypt:orders-*, hash.
Permissions: encrypt, decrypt, rewrap, datakey, sign, verify, hash, entropy, keystream,
keystream.rederive, keys.read, keys.manage, keys.export, auth.manage, audit.read, metrics.read.
";

const CREATE: &str = "\
quantonium apikey create: make an API key; its secret is shown once.

  quantonium apikey create --name billing --scope encrypt:orders-*,decrypt:orders-* \\
      --expires-in 90d --rate 100:500 --network 10.0.0.0/8 --out billing.key

Nobody gives out more than the API key has that asks: neither scopes, nor time, networks or rate,
unless it is an admin key. On a stopped store there is no such limit.

Flags:
  --name NAME              what it is for: 1 to 64 bytes
  --scope SCOPE            what it may do; repeat it, or separate with commas
  --description TEXT       more about it
  --expires-in TIME        30d, 12h, 15m, 900s or 900; default: never
  --rate N[:BURST]         N requests in a second, BURST (or N) at once; default: the server's
  --network CIDR           from where it may be used; repeat it, or commas; default: anywhere
  --identity IDENTITY      which peers need no secret: dns:HOST, uri:URI, email:ADDRESS of a client
                           certificate, unix-user:NUMBER or unix-group:NUMBER of a process
  --out FILE               write the secret there (mode 0600); the file must not exist
  --json                   show the new key in JSON, with the secret in it unless --out is given
";

const LIST: &str = "\
quantonium apikey list: show all API keys, a line for each. No secret is shown: nothing has them.

  quantonium apikey list --api-key-file admin.key

With --json: an object with the list `keys`.
";

const SHOW: &str = "\
quantonium apikey show: show an API key: what it may do, and how it was used. Not its secret.

  quantonium apikey show 1a2b3c4d --api-key-file admin.key
";

const ROTATE: &str = "\
quantonium apikey rotate: give an API key another secret.

  quantonium apikey rotate 1a2b3c4d --overlap 1h --api-key-file admin.key --out billing.new

The secret before works on for the overlap, a day if nothing is said and 30 at most, so that clients
can be changed one after the other. Tokens that were got with it end at once. A second rotation
ends the overlap of the first. If a secret is known to others, give --overlap 0.

Flags:
  --overlap TIME           how long both secrets work: 1h, 7d, 0
  --out FILE               write the secret there (mode 0600); the file must not exist
";

const REVOKE: &str = "\
quantonium apikey revoke: end an API key and its tokens.

  quantonium apikey revoke 1a2b3c4d --api-key-file admin.key

When it is said to be revoked, no thread of the server takes it any more. It cannot be undone. The
last admin key cannot be revoked: make another one first.
";

const CONFIGURE: &str = "\
quantonium apikey configure: change what an API key may do; what is not named stays.

  quantonium apikey configure 1a2b3c4d --scope encrypt:orders-* --expires-in 30d \\
      --api-key-file admin.key

Flags:
  --name NAME, --description TEXT
  --scope SCOPE            all that it may do from now on; repeat it, or separate with commas
  --expires-in TIME        from now on; `never` takes the end away
  --rate N[:BURST]         `default` takes a rate of its own away
  --network CIDR           all of them; repeat it, or commas; `any` takes them away
  --identity IDENTITY      all of them; repeat it; `none` takes them away
";

const DELETE: &str = "\
quantonium apikey delete: forget an API key that is revoked or has expired.

  quantonium apikey delete 1a2b3c4d --api-key-file admin.key
";

/// On one of them.
pub(in crate::cli) const fn of(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => CREATE,
        Verb::List => LIST,
        Verb::Show => SHOW,
        Verb::Rotate => ROTATE,
        Verb::Revoke => REVOKE,
        Verb::Configure => CONFIGURE,
        Verb::Delete => DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Permission;

    #[test]
    fn every_command_and_every_permission_is_named() {
        for verb in Verb::ALL {
            assert!(APIKEY.contains(&format!("\n  quantonium apikey {}", verb.name())), "{verb:?}");
        }
        let (_, permissions) = APIKEY.split_once("Permissions:").unwrap();
        let named: Vec<&str> = permissions.trim().trim_end_matches('.').split(',').map(str::trim).collect();
        assert_eq!(named, Permission::ALL.map(Permission::name));
    }
}
