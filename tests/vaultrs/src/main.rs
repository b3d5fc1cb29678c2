//! Drives a server with vaultrs, unmodified: `vaultrs-client URL TOKEN_FILE`
//!
//! Says `covered: NAME` for everything that was done and held.

use std::error::Error;

use vaultrs::api::transit::requests::{
    CreateKeyRequest, DataKeyType, ExportKeyType, ExportVersion, UpdateKeyConfigurationRequest,
    VerifySignedDataRequest,
};
use vaultrs::api::transit::{KeyType, OutputFormat};
use vaultrs::client::{Client, VaultClient, VaultClientSettingsBuilder};
use vaultrs::transit::{data, generate, key};
use vaultrs::{auth, sys, token};

const MOUNT: &str = "transit";

fn main() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "a second provider of TLS")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drive())
}

fn covered(name: &str, holds: bool) {
    assert!(holds, "{name}");
    println!("covered: {name}");
}

async fn drive() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (url, file) = words.next().zip(words.next()).ok_or("URL TOKEN_FILE")?;
    let secret = std::fs::read_to_string(file)?.trim().to_owned();
    let mut client =
        VaultClient::new(VaultClientSettingsBuilder::default().address(url).token(&secret).build()?)?;
    covered("health", sys::health(&client).await?.initialized);
    covered("status", format!("{:?}", sys::status(&client).await?) == "OK");
    covered("mounts", sys::mount::list(&client).await?.contains_key("transit/"));
    // Without a type, which is one that this client can read.
    key::create(&client, MOUNT, "v", None).await?;
    let made = key::read(&client, MOUNT, "v").await?;
    covered("create and read", matches!(made.key_type, KeyType::Chacha20Poly1305));
    let mut options = CreateKeyRequest::builder();
    options.key_type(KeyType::Chacha20Poly1305).exportable(true);
    key::create(&client, MOUNT, "w", Some(&mut options)).await?;
    covered("list", key::list(&client, MOUNT).await?.keys == ["v", "w"]);
    let sealed = data::encrypt(&client, MOUNT, "v", "aGVsbG8=", None).await?.ciphertext;
    let opened = data::decrypt(&client, MOUNT, "v", &sealed, None).await?.plaintext;
    covered("encrypt and decrypt", opened == "aGVsbG8=");
    key::rotate(&client, MOUNT, "v").await?;
    let again = data::rewrap(&client, MOUNT, "v", &sealed, None).await?.ciphertext;
    covered("rotate and rewrap", again.starts_with("vault:v2:"));
    let pair = generate::data_key(&client, MOUNT, "v", DataKeyType::Plaintext, None).await?;
    covered("datakey", pair.plaintext.is_some_and(|plaintext| plaintext.len() == 44));
    let wrapped = generate::data_key(&client, MOUNT, "v", DataKeyType::Wrapped, None).await?;
    covered("datakey wrapped", wrapped.plaintext.is_none());
    let mac = generate::hmac(&client, MOUNT, "v", "aGVsbG8=", None).await?.hmac;
    let mut check = VerifySignedDataRequest::builder();
    check.hmac(mac);
    covered("hmac and verify", data::verify(&client, MOUNT, "v", "aGVsbG8=", Some(&mut check)).await?.valid);
    covered("hash", generate::hash(&client, MOUNT, "aGVsbG8=", None).await?.sum.len() == 64);
    let source = vaultrs::api::transit::requests::RandomBytesSource::Platform;
    let random = generate::random_bytes(&client, MOUNT, OutputFormat::Hex, source, None).await?;
    covered("random", random.random_bytes.len() == 64);
    let keys = key::export(&client, MOUNT, "w", ExportKeyType::EncryptionKey, ExportVersion::All).await?;
    covered("export", keys.keys.len() == 1);
    let mut change = UpdateKeyConfigurationRequest::builder();
    change.deletion_allowed(true);
    key::update(&client, MOUNT, "v", Some(&mut change)).await?;
    key::delete(&client, MOUNT, "v").await?;
    covered("config and delete", key::read(&client, MOUNT, "v").await.is_err());
    let (role, rest) = secret.split_once('.').ok_or("no API key")?;
    let login = auth::approle::login(&client, "approle", role, rest).await?;
    client.set_token(&login.client_token);
    covered("approle", token::lookup_self(&client).await?.ttl > 0);
    token::revoke_self(&client).await?;
    covered("revoke-self", key::list(&client, MOUNT).await.is_err());
    Ok(())
}
