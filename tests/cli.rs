//! The command line of the real binary: texts, exit codes, the health check.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

/// The binary under test; without it the tests are skipped aloud, or fail where skipping is not allowed.
fn quantonium() -> Option<Command> {
    let Some(path) = std::env::var_os("QUANTONIUM_BIN") else {
        let required = std::env::var_os("QUANTONIUM_REQUIRE").is_some_and(|value| value == "1");
        assert!(!required, "QUANTONIUM_BIN is not set");
        println!("skipped: QUANTONIUM_BIN is not set");
        return None;
    };
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null());
    Some(command)
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Option<Output> {
    let mut command = quantonium()?;
    Some(command.args(arguments).envs(environment.iter().copied()).output().unwrap())
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn version_begins_with_name_and_version() {
    for spelling in ["version", "--version", "-V"] {
        let Some(output) = run(&[spelling], &[]) else { return };
        assert_eq!(output.status.code(), Some(0));
        let mut lines = out(&output).lines();
        assert_eq!(lines.next(), Some(concat!("quantonium ", env!("CARGO_PKG_VERSION"))));
        let names: Vec<&str> = lines.map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(names, ["commit", "target", "features", "tls", "cpu", "flags"]);
        assert_eq!(err(&output), "");
    }
}

#[test]
fn help_goes_to_standard_output() {
    for arguments in [&["help"][..], &["--help"], &["-h"], &["serve", "--help"], &["healthcheck", "--help"]] {
        let Some(output) = run(arguments, &[]) else { return };
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("quantonium serve --dev"));
        assert!(out(&output).contains("--data-dir"));
        assert_eq!(err(&output), "");
    }
}

#[test]
fn init_and_store_have_their_own_help() {
    for (arguments, example) in [
        (&["init", "--help"][..], "\n  quantonium init --data-dir "),
        (&["help", "init"], "\n  quantonium init --data-dir "),
        (&["store", "--help"], "\n  quantonium store verify "),
        (&["help", "store", "rekey"], "\n  quantonium store rekey --data-dir "),
        (&["store", "verify", "--help"], "\n  quantonium store verify --data-dir "),
        (&["store", "inspect", "-h"], "\n  quantonium store inspect --data-dir "),
        (&["store", "compact", "--data-dir", "x", "-h"], "\n  quantonium store compact --data-dir "),
    ] {
        let Some(output) = run(arguments, &[]) else { return };
        assert_eq!((output.status.code(), err(&output)), (Some(0), ""), "{arguments:?}");
        assert!(out(&output).contains(example), "{arguments:?}: {}", out(&output));
        assert!(out(&output).contains("Exit codes:"), "{arguments:?}");
    }
    let Some(output) = run(&["store"], &[]) else { return };
    assert_eq!((output.status.code(), out(&output)), (Some(64), ""));
    assert!(err(&output).contains("quantonium store rekey "), "{}", err(&output));
}

#[test]
fn no_command_shows_the_help_on_standard_error() {
    let Some(output) = run(&[], &[]) else { return };
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(out(&output), "");
    assert!(err(&output).contains("quantonium serve --dev"));
}

#[test]
fn mistakes_on_the_command_line_are_64_and_say_what_to_run() {
    for (arguments, answer) in [
        (&["srve"][..], "unknown command srve; did you mean `quantonium serve`?"),
        (&["--dev"], "--dev stands before any command; did you mean `quantonium serve --dev`?"),
        (&["serve", "--data-dri", "x"], "unknown flag --data-dri; did you mean --data-dir?"),
        (&["serve", "--workers"], "--workers needs a value"),
        (&["serve", "--workers=1", "--workers=1"], "--workers is given twice"),
        (&["intt"], "unknown command intt; did you mean `quantonium init`?"),
        (&["store", "compct"], "unknown store command compct; did you mean `quantonium store compact`?"),
        (&["store", "verify", "--jsn"], "unknown flag --jsn; did you mean --json?"),
        (
            &["store", "compact", "--workers=1"],
            "--workers is a flag of `quantonium serve`, not of `quantonium store compact`",
        ),
    ] {
        let Some(output) = run(arguments, &[]) else { return };
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let expected = format!("quantonium: {answer}\nRun `quantonium help` for commands and flags.\n");
        assert_eq!(err(&output), expected);
    }
}

#[test]
fn refused_configurations_are_78_and_name_the_source() {
    for (arguments, environment, answer) in [
        (&["serve"][..], &[][..], "no data directory: give --data-dir DIR or set QUANTONIUM_DATA_DIR"),
        (
            &["serve", "--dev"],
            &[("QUANTONIUM_WORKERS", "0")],
            "--workers: 0 is below 1 (set by QUANTONIUM_WORKERS)",
        ),
        (
            &["serve", "--data-dir", "x"],
            &[],
            "no master key: give --master-key-file FILE, set QUANTONIUM_MASTER_KEY_FILE",
        ),
        (
            &["serve", "--dev", "--restore-window", "316224001"],
            &[],
            "--restore-window: 316224001 is above 316224000 (set on the command line)",
        ),
        (
            &["serve", "--dev"],
            &[("QUANTONIUM_MIN_STORE_REVISION", "0")],
            "--min-store-revision: 0 is below 1 (set by QUANTONIUM_MIN_STORE_REVISION)",
        ),
        (&["serve", "--dev", "--listen", "0.0.0.0:0"], &[], "--listen: 0.0.0.0:0 is not a loopback address"),
        (&["serve", "--config", "/nonexistent.toml"], &[], "cannot read the configuration file"),
    ] {
        let Some(output) = run(arguments, environment) else { return };
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(err(&output).starts_with(&format!("quantonium: {answer}")), "{}", err(&output));
        assert_eq!(err(&output).lines().count(), 1);
    }
}

#[test]
fn a_secret_in_the_environment_stops_the_start_unprinted() {
    let environment = [("QUANTONIUM_MASTER_KEY", "correct-horse-battery")];
    let Some(output) = run(&["serve", "--dev"], &environment) else { return };
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("set QUANTONIUM_MASTER_KEY_FILE to its path"), "{}", err(&output));
    assert!(!err(&output).contains("correct-horse"));
}

/// What comes of a command both of whose streams are those that `stream` makes.
fn code_with<S: Into<Stdio>>(arguments: &[&str], stream: impl Fn() -> S) -> Option<i32> {
    let status = quantonium()?.args(arguments).stdout(stream()).stderr(stream()).status().unwrap();
    Some(status.code().unwrap())
}

#[test]
fn a_reader_that_has_enough_does_not_change_the_exit_code() {
    for (arguments, code) in [(&["version"][..], 0), (&["help"], 0), (&["srve"], 64)] {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let Some(found) = code_with(arguments, closed) else { return };
        assert_eq!(found, code, "{arguments:?}");
    }
}

#[test]
fn half_a_text_on_a_full_disk_does_not_pass_for_the_whole() {
    let texts = [
        "version",
        "version --crates",
        "help",
        "man",
        "completions bash",
        "sandbox show",
        "sandbox profile docker",
    ];
    for (arguments, code) in texts.map(|text| (text, 74)).into_iter().chain([("srve", 64)]) {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let Some(found) = code_with(&arguments.split(' ').collect::<Vec<_>>(), full) else { return };
        assert_eq!(found, code, "{arguments:?}");
    }
}

/// A server for one connection, which `answer` speaks to after the request's head. It returns that head.
fn serve(answer: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        answer(stream);
        String::from_utf8(head).unwrap()
    });
    (address, served)
}

fn say(text: &'static str) -> impl FnOnce(TcpStream) + Send {
    move |mut stream| stream.write_all(text.as_bytes()).unwrap()
}

/// What a health check leaves of a server that answers so, and the head that was sent there. Where the machine kept the two from
/// one another for longer than a check waits, there is another one.
fn checked(answer: &'static str, check: impl Fn(SocketAddr) -> Output) -> (SocketAddr, Output, String) {
    loop {
        let (address, served) = serve(say(answer));
        let output = check(address);
        let head = served.join();
        if !err(&output).contains("did not answer within") {
            return (address, output, head.unwrap());
        }
    }
}

#[test]
fn a_healthy_server_is_found_by_url_and_by_configuration() {
    if quantonium().is_none() {
        return;
    }
    let healthy = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let (address, output, head) = checked(healthy, |address| {
        run(&["healthcheck", "--url", &format!("http://{address}/x?y")], &[]).unwrap()
    });
    assert_eq!((output.status.code(), err(&output), out(&output)), (Some(0), "", ""));
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {address}\r\n")), "{head}");

    let (_, output, head) = checked(healthy, |address| {
        let listen = format!("0.0.0.0:{},10.0.0.1:1", address.port());
        run(&["healthcheck"], &[("QUANTONIUM_LISTEN", &listen)]).unwrap()
    });
    assert_eq!((output.status.code(), err(&output)), (Some(0), ""));
    assert!(head.starts_with("GET /api/health HTTP/1.1\r\n"), "{head}");

    let (_, output, _) = checked(healthy, |address| {
        let url = format!("http://localhost:{}/api/health", address.port());
        run(&["healthcheck", "--url", &url], &[]).unwrap()
    });
    assert_eq!((output.status.code(), err(&output)), (Some(0), ""));
}

#[test]
fn an_unhealthy_answer_is_1_with_a_reason() {
    if quantonium().is_none() {
        return;
    }
    for (answer, reason) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered 503"),
        ("HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "answered 301"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "answered something that is not HTTP/1.1"),
        ("HTTP/1.1 200 OK\r\n", "answered something that is not HTTP/1.1"),
        ("", "answered something that is not HTTP/1.1"),
    ] {
        let url = |address: SocketAddr| format!("http://{address}/api/health");
        let (address, output, _) =
            checked(answer, |address| run(&["healthcheck", "--url", &url(address)], &[]).unwrap());
        assert_eq!(output.status.code(), Some(1), "{answer:?}");
        assert_eq!(err(&output), format!("quantonium: healthcheck: {} {reason}\n", url(address)));
    }
}

#[test]
fn an_endless_answer_is_read_only_up_to_its_bound() {
    if quantonium().is_none() {
        return;
    }
    let (address, served) = serve(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    let output = run(&["healthcheck", "--url", &format!("http://{address}/")], &[]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    served.join().unwrap();
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    if quantonium().is_none() {
        return;
    }
    // Reading until the end of the stream: the other side has to hang up first.
    let (address, served) = serve(|mut stream| assert_eq!(stream.read(&mut [0]).unwrap(), 0));
    let url = format!("http://{address}/api/health");
    let output = run(&["healthcheck", "--url", &url], &[]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), format!("quantonium: healthcheck: {url} did not answer within 3000 ms\n"));
    served.join().unwrap();
}

#[test]
fn a_closed_port_is_1_with_a_reason() {
    // A socket that is bound and does not listen keeps the port closed for as long as the test needs it.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = closed.local_addr().unwrap().as_socket().unwrap();
    let Some(output) = run(&["healthcheck"], &[("QUANTONIUM_LISTEN", &address.to_string())]) else { return };
    assert_eq!(output.status.code(), Some(1));
    let reason = format!("http://{address}/api/health refused the connection; is the server running?");
    assert_eq!(err(&output), format!("quantonium: healthcheck: {reason}\n"));
}

#[test]
fn an_address_of_tls_is_asked_through_tls_and_has_its_own_port() {
    let Some(output) = run(&["healthcheck", "--url", "https://127.0.0.1/"], &[]) else { return };
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("https://127.0.0.1/ refused the connection"), "{}", err(&output));
}
