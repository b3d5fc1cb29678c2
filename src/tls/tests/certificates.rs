//! Certificates for the tests, made by another implementation when they run.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_RSA_SHA256, SanType,
};

use crate::tls::Material;

/// Signs others.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// An authority like no other.
pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

/// A key of the older kind.
pub(crate) fn rsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap()
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Issued {
    pub(crate) fn server(authority: &Authority, names: &[&str]) -> Self {
        Self::with_key(authority, names, KeyPair::generate().unwrap())
    }

    pub(crate) fn with_key(authority: &Authority, names: &[&str], key: KeyPair) -> Self {
        Self::sign(authority, &params(names, ExtendedKeyUsagePurpose::ServerAuth), key)
    }

    pub(crate) fn expired(authority: &Authority, names: &[&str]) -> Self {
        let mut params = params(names, ExtendedKeyUsagePurpose::ServerAuth);
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        Self::sign(authority, &params, KeyPair::generate().unwrap())
    }

    pub(crate) fn client(authority: &Authority, names: &[&str], uris: &[&str], mailboxes: &[&str]) -> Self {
        let mut params = params(names, ExtendedKeyUsagePurpose::ClientAuth);
        let text = |text: &&str| Ia5String::try_from(*text).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI(text(uri))));
        params.subject_alt_names.extend(mailboxes.iter().map(|name| SanType::Rfc822Name(text(name))));
        Self::sign(authority, &params, KeyPair::generate().unwrap())
    }

    fn sign(authority: &Authority, params: &CertificateParams, key: KeyPair) -> Self {
        Self { certificate: params.signed_by(&key, &authority.issuer).unwrap(), key }
    }

    pub(crate) fn chain(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn material(&self) -> Material {
        Material::read(self.chain().as_bytes(), self.key.serialize_pem().as_bytes(), None).unwrap()
    }
}

fn params(names: &[&str], purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![purpose];
    params
}
