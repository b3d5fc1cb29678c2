//! Tokens through the public interface: the vectors of RFC 7515, every refusal, and what nobody thought of.

#[path = "jwt/made.rs"]
mod made;

use made::{
    HEADER, NOW, SECRET, encoded, expected, good_claims, judge, judge_at, judge_with, new_token, object,
    payload, sign, signed,
};
use proptest::prelude::*;
use quantonium::auth::jwt::jws::Jws;
use quantonium::auth::jwt::{self, Expected, NewToken, Room, TokenFault};
use quantonium::clock::WallTime;
use quantonium::encoding::base64url_decode;
use quantonium::limits::{
    TOKEN_AUDIENCES_MAX_COUNT, TOKEN_LEEWAY_MILLIS, TOKEN_LIFETIME_MAX_SECONDS, TOKEN_MAX_BYTES,
};

/// RFC 7515, appendix A.1.
const RFC_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RFC_KEY: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

#[test]
fn the_vector_of_rfc_7515_has_the_right_signature_and_not_our_claims() {
    let mut key = [0; 64];
    assert_eq!(base64url_decode(RFC_KEY.as_bytes(), &mut key), Some(64));
    let mut room = Room::new();
    let jws = Jws::read(RFC_TOKEN.as_bytes(), &mut room).unwrap();
    assert!(jws.is_authentic(&key));
    assert_eq!(
        jws.payload(),
        b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
    );
    key[63] ^= 1;
    assert!(!jws.is_authentic(&key));
    assert_eq!(judge(RFC_TOKEN), Err(TokenFault::Claims));
}

#[test]
fn what_is_issued_is_exactly_this_and_is_accepted() {
    let token = jwt::issue(&SECRET, &new_token()).unwrap();
    let claims = format!(
        r#"{{"iss":"quantonium","sub":"0a1b2c3d","aud":"quantonium","iat":{NOW},"nbf":{NOW},"exp":{},"jti":"{}","scope":"encrypt:orders-* hash","gen":3}}"#,
        NOW + 900,
        "c5".repeat(16)
    );
    assert_eq!(*token, signed(HEADER, &claims));
    let mut room = Room::new();
    let unverified = jwt::read(token.as_bytes(), &mut room).unwrap();
    assert_eq!((unverified.key_id(), unverified.generation()), (b"0a1b2c3d", 3));
    let claims = unverified.verify(&SECRET, &expected()).unwrap();
    assert_eq!((&claims.key_id, claims.generation), (b"0a1b2c3d", 3));
    assert_eq!((claims.jti.as_ref(), claims.scope.as_ref()), (&*"c5".repeat(16), "encrypt:orders-* hash"));
    assert_eq!([claims.issued, claims.not_before].map(WallTime::as_secs), [NOW; 2]);
    assert_eq!(claims.expires.as_millis(), (NOW + 900) * 1_000);
}

#[test]
fn what_would_be_refused_is_not_issued() {
    let issue = |new: NewToken<'_>| jwt::issue(&SECRET, &new).map(|_| ());
    for lifetime_seconds in [0, TOKEN_LIFETIME_MAX_SECONDS + 1, u64::MAX] {
        assert_eq!(issue(NewToken { lifetime_seconds, ..new_token() }), Err(TokenFault::Lifetime));
    }
    assert_eq!(issue(NewToken { key_id: *b"0A1B2C3D", ..new_token() }), Err(TokenFault::Claims));
    for scope in ["", " ", "a  b", "a\"", "a\n"] {
        assert_eq!(issue(NewToken { scope, ..new_token() }), Err(TokenFault::Claims), "{scope:?}");
    }
    let long = "s".repeat(TOKEN_MAX_BYTES);
    assert_eq!(issue(NewToken { scope: &long, ..new_token() }), Err(TokenFault::Oversized));
    // What has to be escaped comes back.
    let issuer = "\"\\\u{7}grün\u{1F600}";
    let token = jwt::issue(&SECRET, &NewToken { issuer, ..new_token() }).unwrap();
    let mut room = Room::new();
    let expected = Expected { issuer, ..expected() };
    assert!(jwt::read(token.as_bytes(), &mut room).unwrap().verify(&SECRET, &expected).is_ok());
}

#[test]
fn tokens_are_told_from_api_keys() {
    let token = jwt::issue(&SECRET, &new_token()).unwrap();
    assert!(jwt::is_token(token.as_bytes()));
    for token in ["..", "a.b.c", "a.b.", "a.b.c.d.e"] {
        assert!(jwt::is_token(token.as_bytes()), "{token}");
    }
    let key = format!("qk_0a1b2c3d.{}", "A".repeat(43));
    for other in ["", ".", "a.b", &key, "qk_0a1b2c3d.A.B", "qk_..."] {
        assert!(!jwt::is_token(other.as_bytes()), "{other}");
    }
}

#[test]
fn other_algorithms_are_refused_with_any_signature() {
    let body = encoded(payload(&[]).as_bytes());
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""""#,
        r#""hs256""#,
        r#""HS256 ""#,
        r#""HS384""#,
        r#""HS512""#,
        r#""RS256""#,
        r#""ES256""#,
        r#""EdDSA""#,
        r#""dir""#,
        "null",
        "256",
        r#"["HS256"]"#,
    ] {
        let header = format!("{{\"alg\":{alg},\"typ\":\"JWT\"}}");
        assert_eq!(judge(&signed(&header, &payload(&[]))), Err(TokenFault::Algorithm), "{alg}");
        let unsigned = format!("{}.{body}.", encoded(header.as_bytes()));
        assert_eq!(judge(&unsigned), Err(TokenFault::Algorithm), "{alg}");
    }
    for header in ["{}", r#"{"typ":"JWT"}"#] {
        assert_eq!(judge(&signed(header, &payload(&[]))), Err(TokenFault::Algorithm), "{header}");
    }
    // The right one without a signature.
    let unsigned = format!("{}.{body}.", encoded(HEADER.as_bytes()));
    assert_eq!(judge(&unsigned), Err(TokenFault::Signature));
}

#[test]
fn header_members_beside_alg_and_typ_are_refused() {
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""jku":"https://example.com/""#,
        r#""jwk":{"kty":"oct","k":"AA"}"#,
        r#""x5u":"https://example.com/""#,
        r#""x5c":["AA"]"#,
        r#""x5t":"AA""#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""kid":"0a1b2c3d""#,
        r#""cty":"JWT""#,
        r#""zip":"DEF""#,
        r#""enc":"A128GCM""#,
        r#""ALG":"HS256""#,
        r#""":null"#,
        r#""x":1"#,
    ] {
        for header in [format!("{{\"alg\":\"HS256\",{member}}}"), format!("{{{member},\"alg\":\"HS256\"}}")] {
            assert_eq!(judge(&signed(&header, &payload(&[]))), Err(TokenFault::Header), "{header}");
        }
    }
}

#[test]
fn the_type_is_jwt_or_left_out() {
    for header in [
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"jwt","alg":"HS256"}"#,
        " { \"typ\" : \"Jwt\" ,\r\n \"alg\" : \"HS256\" } ",
        r#"{"\u0061lg":"HS\u003256"}"#,
    ] {
        assert_eq!(judge(&signed(header, &payload(&[]))), Ok(()), "{header}");
    }
    for kind in [r#""""#, r#""JWS""#, r#""at+jwt""#, r#""application/jwt""#, "null", "1", r#"["JWT"]"#] {
        let header = format!("{{\"alg\":\"HS256\",\"typ\":{kind}}}");
        assert_eq!(judge(&signed(&header, &payload(&[]))), Err(TokenFault::Type), "{kind}");
    }
}

#[test]
fn members_that_stand_twice_are_refused() {
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"JWT","typ":"JWT"}"#,
    ] {
        assert_eq!(judge(&signed(header, &payload(&[]))), Err(TokenFault::Malformed), "{header}");
    }
    let good = payload(&[]);
    let mut twice: Vec<String> = Vec::new();
    for (name, value) in good_claims() {
        twice.push(good.replacen('{', &format!("{{\"{name}\":{value},"), 1));
        // The same name in another spelling.
        let (first, rest) = name.split_at(1);
        let escaped = format!("\\u{:04x}{rest}", first.as_bytes()[0]);
        twice.push(good.replacen('{', &format!("{{\"{escaped}\":{value},"), 1));
    }
    twice.push(good.replacen('{', r#"{"x":1,"x":1,"#, 1));
    twice.push(good.replacen('{', r#"{"x":{"a":1,"b":{},"a":1},"#, 1));
    for claims in twice {
        assert_eq!(judge(&signed(HEADER, &claims)), Err(TokenFault::Malformed), "{claims}");
    }
}

#[test]
fn every_claim_is_needed_and_further_ones_are_ignored() {
    for at in 0..good_claims().len() {
        let mut claims = good_claims();
        let (name, _) = claims.remove(at);
        assert_eq!(judge(&signed(HEADER, &object(&claims))), Err(TokenFault::Claims), "{name}");
    }
    let mut claims = good_claims();
    claims.reverse();
    claims.push(("name".to_owned(), r#""gr\u00fcn""#.to_owned()));
    claims.push(("x".to_owned(), r#"{"exp":"no","list":[1,-2,3.5,null,true,["a"]]}"#.to_owned()));
    assert_eq!(judge(&signed(HEADER, &object(&claims))), Ok(()));
    for payload in ["", "null", "[]", "\"text\"", "{}{}"] {
        assert_eq!(judge(&signed(HEADER, payload)), Err(TokenFault::Malformed), "{payload}");
    }
    assert_eq!(judge(&signed(HEADER, &format!("{} x", payload(&[])))), Err(TokenFault::Malformed));
}

#[test]
fn claims_of_another_form_are_refused() {
    let hundred = format!("\"{}\"", "j".repeat(65));
    let many = format!("[{}]", ["\"quantonium\""; TOKEN_AUDIENCES_MAX_COUNT + 1].join(","));
    for (claim, values) in [
        ("iss", &["null", "1", r#"["quantonium"]"#, "{}"][..]),
        ("sub", &["null", "1", r#""""#, r#""0A1B2C3D""#, r#""0a1b2c3""#, r#""0a1b2c3d4""#, r#""0a1b2c3g""#]),
        ("aud", &["null", "1", "{}", r#"["quantonium",1]"#, r#"[["quantonium"]]"#, many.as_str()]),
        ("jti", &["null", "7", r#""""#, r#""a b""#, r#""a.b""#, r#""ü""#, hundred.as_str()]),
        ("scope", &["null", "1", "[]", r#"["hash"]"#, r#""""#, r#"" hash""#, r#""hash ""#, r#""a  b""#]),
        ("scope", &[r#""a\tb""#, r#""a\"b""#, r#""a\\b""#, r#""a\u0000b""#, r#""ü""#]),
        ("gen", &["null", r#""3""#, "3.0", "-3", "4294967296", "[3]"]),
    ] {
        for value in values {
            assert_eq!(judge_with(claim, value), Err(TokenFault::Claims), "{claim}: {value}");
        }
    }
}

#[test]
fn times_are_numbers_from_1970_to_9999() {
    for claim in ["iat", "nbf", "exp"] {
        for value in [
            "null",
            "true",
            r#""1795362166""#,
            "[]",
            "{}",
            "-1",
            "-0",
            "-0.5",
            "-1e9",
            "253402300800",
            "1e300",
            "18446744073709551615",
            "18446744073709551616",
        ] {
            assert_eq!(judge_with(claim, value), Err(TokenFault::Claims), "{claim}: {value}");
        }
        for value in ["1e400", "-1e400", "NaN", "Infinity", "0x10", "1_000", "01", "1.", ".5", "+1"] {
            assert_eq!(judge_with(claim, value), Err(TokenFault::Malformed), "{claim}: {value}");
        }
    }
    for (iat, exp) in [("1795362166.25", "1795362176.75"), ("1.795362166e9", "1795362176")] {
        let claims = payload(&[("iat", iat), ("nbf", "0"), ("exp", exp)]);
        assert_eq!(judge(&signed(HEADER, &claims)), Ok(()), "{iat} {exp}");
    }
}

#[test]
fn times_are_judged_to_the_millisecond_with_the_leeway() {
    let token =
        signed(HEADER, &payload(&[("nbf", &format!("{NOW}.5")), ("exp", &format!("{}.25", NOW + 10))]));
    let (begins, ends) = (NOW * 1_000 + 500, (NOW + 10) * 1_000 + 250);
    assert_eq!(judge_at(&token, begins - TOKEN_LEEWAY_MILLIS - 1), Err(TokenFault::NotYet));
    assert_eq!(judge_at(&token, begins - TOKEN_LEEWAY_MILLIS), Ok(()));
    assert_eq!(judge_at(&token, ends + TOKEN_LEEWAY_MILLIS - 1), Ok(()));
    assert_eq!(judge_at(&token, ends + TOKEN_LEEWAY_MILLIS), Err(TokenFault::Expired));
    assert_eq!(judge_at(&token, 0), Err(TokenFault::NotYet));
    assert_eq!(judge_at(&token, u64::MAX), Err(TokenFault::Expired));
    // Made in the future, though it begins in the past.
    let token = signed(HEADER, &payload(&[("nbf", "0")]));
    assert_eq!(judge_at(&token, NOW * 1_000 - TOKEN_LEEWAY_MILLIS - 1), Err(TokenFault::NotYet));
    assert_eq!(judge_at(&token, NOW * 1_000 - TOKEN_LEEWAY_MILLIS), Ok(()));
}

#[test]
fn lifetimes_are_bounded() {
    let ending = |seconds: u64| judge_with("exp", &seconds.to_string());
    assert_eq!(ending(NOW + TOKEN_LIFETIME_MAX_SECONDS), Ok(()));
    assert_eq!(ending(NOW + TOKEN_LIFETIME_MAX_SECONDS + 1), Err(TokenFault::Lifetime));
    assert_eq!(ending(253_402_300_799), Err(TokenFault::Lifetime));
    assert_eq!(ending(NOW), Err(TokenFault::Lifetime));
    assert_eq!(ending(NOW - 1), Err(TokenFault::Lifetime));
    assert_eq!(
        judge_with("exp", &format!("{}.001", NOW + TOKEN_LIFETIME_MAX_SECONDS)),
        Err(TokenFault::Lifetime)
    );
}

#[test]
fn issuer_and_audience_are_compared_whole() {
    for issuer in [r#""""#, r#""Quantonium""#, r#""quantonium ""#, r#""quantoniu""#, r#""quantonium\u0000""#]
    {
        assert_eq!(judge_with("iss", issuer), Err(TokenFault::Issuer), "{issuer}");
    }
    assert_eq!(judge_with("iss", r#""quant\u006fnium""#), Ok(()));
    for audience in
        [r#""""#, r#""others""#, "[]", r#"[""]"#, r#"["others","quantonium "]"#, r#""quantonium others""#]
    {
        assert_eq!(judge_with("aud", audience), Err(TokenFault::Audience), "{audience}");
    }
    let eight = format!("[{}\"quantonium\"]", "\"others\",".repeat(TOKEN_AUDIENCES_MAX_COUNT - 1));
    for audience in [r#"["quantonium"]"#, r#"["quantonium","others"]"#, &eight] {
        assert_eq!(judge_with("aud", audience), Ok(()), "{audience}");
    }
}

#[test]
fn no_claim_is_judged_before_the_signature() {
    let bad = payload(&[("iss", r#""others""#), ("aud", r#""others""#), ("exp", "1")]);
    let token = signed(HEADER, &bad);
    let mut room = Room::new();
    let judged = jwt::read(token.as_bytes(), &mut room).unwrap().verify(&[0; 32], &expected());
    assert_eq!(judged.err(), Some(TokenFault::Signature));
    assert_eq!(judge(&token), Err(TokenFault::Issuer));
}

#[test]
fn a_token_has_one_spelling() {
    // Of every length modulo 3, so that each kind of last character is met.
    for filling in ["", "1", "22"] {
        let good = payload(&[("jti", &format!("\"x{filling}\""))]);
        let token = signed(HEADER, &good);
        assert_eq!(judge(&token), Ok(()));
        let parts: Vec<&str> = token.split('.').collect();
        let mut bad = vec![
            format!("{token}="),
            format!("{token}."),
            format!("{token}.."),
            format!(".{token}"),
            format!(" {token}"),
            format!("{token} "),
            format!("{token}\n"),
            format!("{token}\0"),
            format!("{}.{}", parts[0], parts[1]),
            parts[0].to_owned(),
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            format!(".{}.{}", parts[1], parts[2]),
            format!("{}..{}", parts[0], parts[2]),
            token.replace('.', ":"),
        ];
        // The same bits with padding or white space, signed as they stand.
        for [header, body] in [
            [format!("{}=", parts[0]), parts[1].to_owned()],
            [parts[0].to_owned(), format!("{}=", parts[1])],
            [parts[0].to_owned(), format!("{}==", parts[1])],
            [format!("{}\n", parts[0]), parts[1].to_owned()],
            [parts[0].to_owned(), format!("{} {}", &parts[1][..4], &parts[1][4..])],
        ] {
            bad.push(sign(&format!("{header}.{body}")));
        }
        for token in bad {
            assert_eq!(judge(&token), Err(TokenFault::Malformed), "{token:?}");
        }
        // Characters beside the last one that decode to the same bytes in a lax decoder.
        for last in 0..128u8 {
            let last = char::from(last);
            let body = format!("{}{last}", &parts[1][..parts[1].len() - 1]);
            if body == parts[1] {
                continue;
            }
            assert!(judge(&sign(&format!("{}.{body}", parts[0]))).is_err(), "{body}");
        }
    }
    // The other alphabet: these claims have both characters in which the two differ.
    let token = signed(HEADER, &payload(&[]).replacen('{', "{\"?>?~~~\":\"???>>>\u{FF}\u{FB}\",", 1));
    assert_eq!(judge(&token), Ok(()));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let [dashes, lines] = [signed.replace('-', "+"), signed.replace('_', "/")];
    assert!(dashes != signed && lines != signed, "{signed}");
    assert_eq!(judge(&sign(&dashes)), Err(TokenFault::Malformed));
    assert_eq!(judge(&sign(&lines)), Err(TokenFault::Malformed));
}

#[test]
fn oversized_tokens_are_refused() {
    let long = |len: usize| {
        let claims = payload(&[]).replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(len)), 1);
        signed(HEADER, &claims)
    };
    let mut len = 2_000;
    while long(len + 1).len() <= TOKEN_MAX_BYTES {
        len += 1;
    }
    assert_eq!(judge(&long(len)), Ok(()));
    assert_eq!(judge(&long(len + 1)), Err(TokenFault::Oversized));
    assert_eq!(judge(&"a".repeat(1_000_000)), Err(TokenFault::Oversized));
}

#[test]
fn any_change_of_one_byte_is_refused() {
    let token = jwt::issue(&SECRET, &new_token()).unwrap();
    assert_eq!(judge(&token), Ok(()));
    let mut changed = token.as_bytes().to_vec();
    for at in 0..changed.len() {
        let own = changed[at];
        for byte in 0..=u8::MAX {
            changed[at] = byte;
            let mut room = Room::new();
            let judged = jwt::read(&changed, &mut room).and_then(|token| token.verify(&SECRET, &expected()));
            assert_eq!(judged.is_ok(), byte == own, "byte {at}: {own} to {byte}");
        }
        changed[at] = own;
        let [shorter, longer] =
            [[&changed[..at], &changed[at + 1..]].concat(), [&changed[..at], b"A", &changed[at..]].concat()];
        for other in [shorter, longer] {
            assert!(judge(&String::from_utf8(other).unwrap()).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_room_serves_one_token_after_another() {
    let [first, second] =
        ["first", "2"].map(|jti| signed(HEADER, &payload(&[("jti", &format!("\"{jti}\""))])));
    let mut room = Room::new();
    for (token, jti) in [(&first, "first"), (&second, "2"), (&first, "first")] {
        let claims = jwt::read(token.as_bytes(), &mut room).unwrap().verify(&SECRET, &expected()).unwrap();
        assert_eq!(claims.jti, jti);
    }
}

/// JSON that is nearly what a token holds.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(r#""alg":"HS256""#.to_owned()),
        Just(r#""typ":"JWT""#.to_owned()),
        Just(r#""aud":["quantonium"]"#.to_owned()),
        Just(r#""exp":1e10"#.to_owned()),
        Just(r#""gen":3"#.to_owned()),
        Just("[[[[[".to_owned()),
        Just(r#""\ud83d\ude00""#.to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just(",".to_owned()),
        any::<f64>().prop_map(|number| format!("\"nbf\":{number}")),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("{{{}}}", pieces.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
        let mut room = Room::new();
        prop_assert!(jwt::read(&bytes, &mut room).is_err());
        let _ = jwt::is_token(&bytes);
    }

    #[test]
    fn signed_nonsense_is_an_error(header in nearly_json(), claims in nearly_json()) {
        prop_assert!(judge(&signed(&header, &payload(&[]))).is_err() || header.contains("HS256"));
        prop_assert!(judge(&signed(HEADER, &claims)).is_err());
    }

    #[test]
    fn every_token_that_is_issued_is_accepted_until_it_ends(
        secret: [u8; 32],
        generation: u32,
        jti: [u8; 16],
        millis in 0u64..253_402_000_000_000,
        lifetime_seconds in 1..=TOKEN_LIFETIME_MAX_SECONDS,
        issuer: String,
        audience: String,
        scope in "[!-!#-\\[\\]-~]{1,40}( [!-!#-\\[\\]-~]{1,40}){0,8}",
        later in 0u64..100_000_000,
    ) {
        let issued = WallTime::from_millis(millis);
        let new = NewToken {
            key_id: *b"01234567", generation, issuer: &issuer, audience: &audience, issued, lifetime_seconds, jti,
            scope: &scope,
        };
        let token = jwt::issue(&secret, &new).unwrap();
        let mut room = Room::new();
        let expected = Expected { issuer: &issuer, audience: &audience, now: WallTime::from_millis(millis + later) };
        let judged = jwt::read(token.as_bytes(), &mut room).unwrap().verify(&secret, &expected);
        let ends = (issued.as_secs() + lifetime_seconds) * 1_000 + TOKEN_LEEWAY_MILLIS;
        match judged {
            Ok(claims) => {
                prop_assert!(millis + later < ends);
                prop_assert_eq!((claims.scope.as_ref(), claims.generation), (scope.as_str(), generation));
            }
            Err(fault) => prop_assert!(millis + later >= ends && fault == TokenFault::Expired),
        }
    }
}
