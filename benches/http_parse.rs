//! Heads, chunked bodies and reply heads: what HTTP itself costs per request.

#![allow(missing_docs, reason = "the entry points are made by criterion's macros")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quantonium::clock::WallTime;
use quantonium::http::chunked::ChunkedDecoder;
use quantonium::http::date::imf_fixdate;
use quantonium::http::head::Head;
use quantonium::http::reply::{BodyLength, Face, Persistence, ReplyHead, stamp};
use quantonium::http::sharing::Sharing;
use quantonium::http::status::Status;
use quantonium::limits::REPLY_HEAD_MAX_BYTES;
use quantonium::model::RequestId;

const MINIMAL: &[u8] = b"GET /api/health HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";

const CURL: &[u8] = b"POST /api/encrypt HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.14.1\r\n\
    Accept: */*\r\nX-API-Key: qk_0123abcd.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n\
    Content-Length: 39\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n";

const BROWSER: &[u8] = b"GET /docs?section=encrypt HTTP/1.1\r\nHost: crypto.example.org\r\n\
    Connection: keep-alive\r\nCache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, head) in [("minimal", MINIMAL), ("curl", CURL), ("browser", BROWSER)] {
        assert!(matches!(Head::parse(head), Ok(Some(parsed)) if parsed.len == head.len()));
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Head::parse(black_box(head))));
    }
    group.finish();
}

fn chunked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked_64k");
    group.throughput(Throughput::Bytes(64 * 1024));
    for size in [512, 16 * 1024, 64 * 1024] {
        let mut body = Vec::new();
        for _ in 0..64 * 1024 / size {
            body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            body.resize(body.len() + size, b'a');
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        group.bench_function(format!("chunks_of_{size}"), |bencher| {
            bencher.iter_batched_ref(
                || body.clone(),
                |raw| ChunkedDecoder::default().decode(black_box(raw)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let (date, request_id) = (imf_fixdate(WallTime::now()), RequestId::new(1, 2));
    let head = ReplyHead {
        status: Status::Ok,
        date: &date,
        request_id: &request_id,
        content_type: Some("application/json"),
        body: BodyLength::Known(173),
        persistence: Persistence::Implied,
        fields: &[],
        quota: None,
        secure: false,
        sharing: Sharing::Closed,
        face: Face::Answer,
    };
    let mut target = [0u8; REPLY_HEAD_MAX_BYTES];
    assert!(head.write(&mut target).is_some());
    criterion.bench_function("reply_head", |bencher| {
        bencher.iter(|| {
            let written = black_box(&head).write(&mut target);
            if let Some(written) = written {
                stamp(&mut target, written.stamp_at, black_box(12_345));
            }
            black_box(&target);
            written
        });
    });
}

criterion_group!(benches, heads, chunked, replies);
criterion_main!(benches);
