//! Batches, and the statuses that they have.

use serde_json::{Value, json};

use super::{ask, create, data, error, post, seal};
use crate::server::Server;
use crate::server::client::{Reply, Request};

fn results(reply: &Reply, status: u16) -> Vec<Value> {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.field("Content-Type"), Some("application/json"));
    assert_eq!(reply.field("Content-Length"), Some(reply.body.len().to_string().as_str()));
    let json = reply.json();
    assert!(json["request_id"].is_string() && json["auth"].is_null(), "the whole envelope: {json}");
    json["data"]["batch_results"].as_array().unwrap().clone()
}

#[test]
fn sealing_and_opening_tell_of_a_bad_item_by_the_status_and_answer_the_others() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let good = json!({"plaintext": "aGk=", "reference": "one"});
    let all = results(&post(&server, "encrypt/k", &json!({"batch_input": [good, good]})), 200);
    assert!(all.iter().all(|item| item["key_version"] == 1 && item["reference"] == "one"), "{all:?}");
    let mixed = json!([good, {"plaintext": "!!", "reference": "two"}, {}]);
    let some = results(&post(&server, "encrypt/k", &json!({"batch_input": mixed})), 400);
    assert!(some[0]["ciphertext"].is_string() && some[1]["error"].is_string());
    assert_eq!((&some[1]["reference"], &some[2]["reference"]), (&json!("two"), &json!("")));
    assert_eq!(some[2]["error"], "missing plaintext to encrypt");
    for (code, status) in [(json!(207), 207), (json!("200"), 200), (json!(202), 202)] {
        let body = json!({"batch_input": mixed, "partial_failure_response_code": code});
        assert_eq!(results(&post(&server, "encrypt/k", &body), status).len(), 3);
    }
    let none = json!({"batch_input": [{"plaintext": "!!"}], "partial_failure_response_code": 207});
    results(&post(&server, "encrypt/k", &none), 400);
    let sealed = json!({"ciphertext": all[0]["ciphertext"]});
    let opened = json!({"batch_input": [sealed, {"ciphertext": "vault:v1:AAAA"}]});
    let opened = results(&post(&server, "decrypt/k", &opened), 400);
    assert_eq!(opened[0], json!({"plaintext": "aGk=", "reference": ""}));
    assert!(opened[1]["plaintext"] == "" && opened[1]["error"].is_string(), "{opened:?}");
}

#[test]
fn the_other_batches_are_200_whatever_is_in_them() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let sealed = seal(&server, "k", "aGk=");
    let body = json!({"batch_input": [{"ciphertext": sealed}, {"ciphertext": "x"}]});
    let rewrapped = results(&post(&server, "rewrap/k", &body), 200);
    assert!(rewrapped[0]["ciphertext"] != sealed.as_str() && rewrapped[1]["error"].is_string());
    let macs = json!({"batch_input": [{"input": "aGk="}, {"input": "!!"}, {}]});
    let macs = results(&post(&server, "hmac/k", &macs), 200);
    assert!(macs[0]["hmac"].is_string() && macs[1]["error"].is_string() && macs[2]["error"].is_string());
    let mac = &macs[0]["hmac"];
    let checks = json!({"batch_input": [{"input": "aGk=", "hmac": mac}, {"input": "aGo=", "hmac": mac}]});
    let checks = results(&post(&server, "verify/k", &checks), 200);
    // In a batch what is not valid is left out.
    assert_eq!(checks, [json!({"valid": true, "reference": ""}), json!({"reference": ""})]);
    assert_eq!(
        data(&post(&server, "verify/k", &json!({"input": "aGo=", "hmac": mac}))),
        json!({"valid": false})
    );
}

#[test]
fn a_batch_that_is_none_is_refused_as_a_whole_and_never_with_a_500() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    for batch in [json!([]), json!({}), json!([1]), json!("a"), json!([{"plaintext": 1}])] {
        let reply = post(&server, "encrypt/k", &json!({"batch_input": batch}));
        assert_eq!((reply.status, error(&reply).is_empty()), (400, false), "{batch}");
    }
    let code = json!({"batch_input": [{}], "partial_failure_response_code": 204});
    assert_eq!(post(&server, "encrypt/k", &code).status, 400);
}

#[test]
fn items_choose_their_versions_and_a_long_batch_keeps_its_order() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    post(&server, "keys/k/rotate", &json!({}));
    let items: Vec<Value> = (0..5_000)
        .map(
            |number| json!({"plaintext": "aGk=", "key_version": number % 3, "reference": number.to_string()}),
        )
        .collect();
    let all = results(&post(&server, "encrypt/k", &json!({"batch_input": items})), 200);
    assert_eq!(all.len(), 5_000);
    for (number, item) in all.iter().enumerate() {
        assert_eq!(item["reference"], number.to_string());
        assert_eq!(item["key_version"], if number % 3 == 1 { 1 } else { 2 });
    }
}

#[test]
fn a_batch_whose_results_fit_no_reply_is_refused_as_a_whole() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    for (path, item) in [
        ("encrypt", "{}"),
        ("encrypt", r#"{"plaintext":""}"#),
        ("decrypt", r#"{"ciphertext":"vault:v1:"}"#),
        ("hmac", r#"{"input":""}"#),
        ("verify", r#"{"input":"","hmac":"x"}"#),
    ] {
        let items = vec![item; 1_300_000 / (item.len() + 1)].join(",");
        let body = format!("{{\"batch_input\":[{items}]}}");
        let reply = ask(&server, Request::post(&format!("/v1/transit/{path}/k"), body));
        assert_eq!((reply.status, error(&reply).is_empty()), (413, false), "{path} {item}");
    }
    data(&post(&server, "encrypt/k", &json!({"plaintext": ""})));
}

#[test]
fn a_body_may_be_nested_as_deep_as_it_is_long() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let (open, close) = ("[".repeat(600_000), "]".repeat(600_000));
    for (body, status) in [
        (format!("{{\"x\":{open}{close},\"plaintext\":\"\"}}"), 200),
        (format!("{{\"x\":{open}"), 400),
        (format!("{{\"batch_input\":{open}{close}}}"), 400),
        (format!("{{\"batch_input\":[{{\"x\":{open}{close},\"plaintext\":\"\"}}]}}"), 200),
        (format!("{{\"batch_input\":[{{\"plaintext\":{open}{close}}}]}}"), 400),
        (format!("{open}{close}"), 400),
    ] {
        let reply = ask(&server, Request::post("/v1/transit/encrypt/k", body));
        assert_eq!(reply.status, status, "{}", reply.text());
    }
}
