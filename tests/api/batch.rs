//! Many payloads in one request.

use serde_json::{Value, json};

use crate::{base64, must_create, post, results, with_orders};

#[test]
fn results_stand_in_the_order_of_the_items_and_errors_beside_them() {
    let Some(server) = with_orders() else { return };
    let reference = "a\"b\\c/d\u{1}\u{1f}\u{7f}é\u{2028}😀";
    let items = json!([
        { "plaintext": "Zmlyc3Q=" },
        { "plaintext": "!", "reference": reference },
        { "plaintext": "dGhpcmQ=", "associated_data": "eA==", "reference": reference },
        { "plaintext": "", "reference": "" },
        { "plaintext": "eA==", "associated_data": "!" },
        { "plaintext": "eA==", "context": "eA==" },
        { "plaintext": "bGFzdA==" },
    ]);
    let sealed = post(&server, "/api/encrypt", &json!({ "key": "orders", "batch": items }).to_string());
    let sealed = results(&sealed);
    assert_eq!(sealed.len(), 7);
    let codes: Vec<_> = sealed.iter().map(|result| result["error"]["code"].as_str()).collect();
    let wanted = [
        None,
        Some("malformed_plaintext"),
        None,
        None,
        Some("malformed_associated_data"),
        Some("context_not_allowed"),
        None,
    ];
    assert_eq!(codes, wanted);
    let references: Vec<_> = sealed.iter().map(|result| result["reference"].as_str()).collect();
    assert_eq!(references, [None, Some(reference), Some(reference), Some(""), None, None, None]);
    for result in &sealed {
        let good = result.get("error").is_none();
        assert_eq!(
            good,
            result["ciphertext"].as_str().is_some_and(|text| text.starts_with("quantonium:v1:"))
        );
        assert_eq!(good, result["key_version"] == 1);
        assert!(good || result["error"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }

    let items: Vec<Value> = sealed
        .iter()
        .zip(["", "", "eA==", "", "", "", "eQ=="])
        .map(|(result, data)| json!({ "ciphertext": result["ciphertext"].as_str().unwrap_or("no"), "associated_data": data, "reference": "r" }))
        .collect();
    let opened = post(&server, "/api/decrypt", &json!({ "key": "orders", "batch": items }).to_string());
    let opened = results(&opened);
    let texts: Vec<_> = opened.iter().map(|result| result["plaintext"].as_str()).collect();
    assert_eq!(texts, [Some("Zmlyc3Q="), None, Some("dGhpcmQ="), Some(""), None, None, None]);
    for result in &opened {
        assert_eq!(result["reference"], "r");
        assert!(
            result["plaintext"].is_string() || result["error"]["code"] == "decryption_failed",
            "{result}"
        );
    }
}

#[test]
fn a_batch_takes_its_version_from_the_request() {
    let Some(server) = with_orders() else { return };
    post(&server, "/api/keys/orders/rotate", "{}");
    let body = json!({ "key": "orders", "key_version": 1, "batch": [{ "plaintext": "eA==" }] });
    assert_eq!(results(&post(&server, "/api/encrypt", &body.to_string()))[0]["key_version"], 1);
    let body = json!({ "key": "orders", "batch": [{ "plaintext": "eA==" }] });
    assert_eq!(results(&post(&server, "/api/encrypt", &body.to_string()))[0]["key_version"], 2);
}

#[test]
fn an_empty_batch_has_no_results() {
    let Some(server) = with_orders() else { return };
    for route in ["/api/encrypt", "/api/decrypt"] {
        let reply = post(&server, route, r#"{"key":"orders","batch":[]}"#);
        assert_eq!((reply.status, reply.text()), (200, r#"{"results":[]}"#));
    }
}

#[test]
fn a_batch_that_is_malformed_as_a_whole_is_refused_as_a_whole() {
    let Some(server) = with_orders() else { return };
    for (route, payload) in [("/api/encrypt", "plaintext"), ("/api/decrypt", "ciphertext")] {
        let code = format!("{payload}_or_batch");
        for members in [
            format!(r#""{payload}":"","batch":[]"#),
            r#""associated_data":"","batch":[]"#.to_owned(),
            r#""context":"","batch":[]"#.to_owned(),
        ] {
            post(&server, route, &format!(r#"{{"key":"orders",{members}}}"#)).assert_problem(400, &code);
        }
        for batch in [
            "{}".to_owned(),
            "1".to_owned(),
            "[1]".to_owned(),
            "[{}]".to_owned(),
            "[null]".to_owned(),
            format!(r#"[{{"{payload}":"eA==","key":"orders"}}]"#),
            format!(r#"[{{"{payload}":"eA==","reference":1}}]"#),
            format!(r#"[{{"{payload}":"eA==","{payload}":"eA=="}}]"#),
            format!(r#"[{{"{payload}":"eA=="}},]"#),
            r#"[["eA==",null,null,null]]"#.to_owned(),
        ] {
            let body = format!(r#"{{"key":"orders","batch":{batch}}}"#);
            post(&server, route, &body).assert_problem(400, "malformed_json");
        }
        post(&server, route, r#"{"key":"nope","batch":[]}"#).assert_problem(404, "unknown_key");
    }
}

#[test]
fn as_many_items_fit_as_their_results_and_more_are_the_callers_fault() {
    let Some(server) = with_orders() else { return };
    let body = |count: usize, payload: &str| {
        let items = vec![json!({ payload: "", "reference": "12345678" }); count];
        json!({ "key": "orders", "batch": items }).to_string()
    };
    for (route, payload) in [("/api/encrypt", "plaintext"), ("/api/decrypt", "ciphertext")] {
        let reply = post(&server, route, &body(12_000, payload));
        assert_eq!(results(&reply).len(), 12_000);
        let length = reply.field("Content-Length").and_then(|length| length.trim().parse().ok());
        assert_eq!(length, Some(reply.body.len()));
        // A 503 would ask the caller to try again what can never be answered.
        post(&server, route, &body(30_000, payload)).assert_problem(413, "batch_too_large");
        // The longest results that items can have, in a body that is as long as a body may be.
        let item = json!({ payload: "", "associated_data": "!", "reference": "r".repeat(286) });
        let worst = json!({ "key": "orders", "batch": vec![item; 4_096] }).to_string();
        assert!(worst.len() > 1_390_000, "{}", worst.len());
        assert_eq!(results(&post(&server, route, &worst)).len(), 4_096);
    }
    let large = json!({ "key": "orders", "batch": vec![json!({ "plaintext": base64(&[7; 350_000]) }); 3] });
    assert_eq!(results(&post(&server, "/api/encrypt", &large.to_string())).len(), 3);
}

#[test]
fn nothing_is_done_when_the_last_item_is_malformed() {
    let Some(server) = with_orders() else { return };
    let mut items = vec![json!({ "plaintext": "eA==" }); 100];
    items.push(json!({ "plaintext": "eA==", "associated_date": "eA==" }));
    let reply = post(&server, "/api/encrypt", &json!({ "key": "orders", "batch": items }).to_string());
    reply.assert_problem(400, "malformed_json");
    assert!(
        reply.text().contains("`plaintext`, `associated_data`, `context`, `reference`"),
        "{}",
        reply.text()
    );
    assert!(!reply.text().contains("associated_date"), "{}", reply.text());
    let deep = format!(r#"{{"key":"orders","batch":{}1{}}}"#, "[".repeat(300_000), "]".repeat(300_000));
    post(&server, "/api/encrypt", &deep).assert_problem(400, "malformed_json");
}

#[test]
fn blanks_and_commas_between_items_and_inside_texts_are_told_apart() {
    let Some(server) = with_orders() else { return };
    let body = "{\"batch\" : [ {\"plaintext\":\"eA==\",\"reference\":\"},{]\"}\n ,\t{\"reference\":\"[{\",\"plaintext\":\"eQ==\"} ] , \"key\":\"orders\"}";
    let sealed = results(&post(&server, "/api/encrypt", body));
    assert_eq!(
        sealed.iter().map(|item| item["reference"].as_str()).collect::<Vec<_>>(),
        [Some("},{]"), Some("[{")]
    );
    let items: Vec<Value> = sealed.iter().map(|item| json!({ "ciphertext": item["ciphertext"] })).collect();
    // Escapes that can be resolved, and one that cannot: the item stands in memory of its own.
    let body =
        json!({ "key": "orders", "batch": items }).to_string().replace('/', "\\/").replace("v1", "v\\u0031");
    let opened = results(&post(&server, "/api/decrypt", &body));
    let texts: Vec<_> = opened.iter().map(|item| item["plaintext"].as_str()).collect();
    assert_eq!(texts, [Some("eA=="), Some("eQ==")]);
}

#[test]
fn a_batch_under_counted_nonces_waits_for_its_block() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305"}"#);
    // The first use asks the keeper for seals, and the whole request is served a second time: escapes and all.
    let body = r#"{"key":"ietf","batch":[{"plaintext":"\/+8=","reference":"\""},{"plaintext":"!"},{"plaintext":"eA=="}]}"#;
    let sealed = results(&post(&server, "/api/encrypt", body));
    assert_eq!(sealed.len(), 3);
    let items = json!([{ "ciphertext": sealed[0]["ciphertext"] }, { "ciphertext": sealed[2]["ciphertext"] }]);
    let opened =
        results(&post(&server, "/api/decrypt", &json!({ "key": "ietf", "batch": items }).to_string()));
    assert_eq!((&opened[0]["plaintext"], &opened[1]["plaintext"]), (&json!("/+8="), &json!("eA==")));
}
