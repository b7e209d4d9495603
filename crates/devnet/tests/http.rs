//! Owns the tests of the HTTP server: what clients and bitcoin-cli see, its bounds, and that odd requests get bitcoind's answers.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{CLOCK, real};
use florin_devnet::bitcoind::{call, post};
use florin_devnet::http::{Credentials, Server, Settling, basic};
use florin_devnet::network::{Network, NodeId};
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_devnet::policy::RelayPolicy;
use serde_json::{Value, json};

fn credentials() -> Credentials {
    Credentials { user: "florin".to_owned(), password: "florin".to_owned() }
}

fn served(nodes: usize) -> (Arc<Mutex<Network>>, Vec<Server>) {
    let network = Arc::new(Mutex::new(Network::new(nodes, &RelayPolicy::default(), CLOCK)));
    let serve = |index| {
        Server::start(network.clone(), NodeId(index), 0, &credentials(), Settling::AfterEachCall).expect("a free port")
    };
    let servers = (0..nodes).map(serve).collect();
    (network, servers)
}

fn ask(server: &Server, method: &str, params: Value) -> Value {
    call(server.address().port(), &credentials(), method, params).expect("an answer").expect("no error")
}

#[test]
fn nodes_of_one_network_are_served_side_by_side() {
    let (_network, servers) = served(3);
    let address = OutsideWallet::new([1; 32]).address(AddressForm::Taproot).to_string();
    let hashes = ask(&servers[0], "generatetoaddress", json!([5, address]));
    for server in &servers {
        assert_eq!(ask(server, "getbestblockhash", json!([])), hashes[4]);
        let info = ask(server, "getblockchaininfo", json!([]));
        assert_eq!((&info["chain"], &info["blocks"]), (&json!("regtest"), &json!(5)));
    }
    let scan = ask(&servers[2], "scantxoutset", json!(["start", [format!("addr({address})")]]));
    assert_eq!(scan["total_amount"].to_string(), "250.00000000");
}

/// Sends bytes on one connection and returns all that comes back until it ends.
fn raw(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    // A server that refuses early may end the connection with bytes unread, which shows as an error after its answer.
    let _ended = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(authorization: &str, extra: &str, body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: x\r\n{authorization}{extra}Content-Length: {length}\r\n\r\n{body}")
}

#[test]
fn one_connection_serves_several_calls_until_it_is_told_to_close() {
    let (_network, servers) = served(1);
    let auth = format!("Authorization: {}\r\n", basic(&credentials()));
    let body = r#"{"id":7,"method":"getblockcount"}"#;
    let twice = request(&auth, "", body) + &request(&auth, "Connection: close\r\n", body);
    let answer = raw(servers[0].address().port(), twice.as_bytes());
    assert_eq!(answer.matches(r#""result":0"#).count(), 2, "{answer}");
    assert_eq!(answer.matches("200 OK").count(), 2);
}

#[test]
fn strangers_and_odd_requests_are_turned_away() {
    let (_network, servers) = served(1);
    let port = servers[0].address().port();
    let auth = format!("Authorization: {}\r\n", basic(&credentials()));
    let close = "Connection: close\r\n";
    let body = r#"{"id":7,"method":"getblockcount"}"#;
    let wrong = Credentials { user: "florin".to_owned(), password: "wrong!".to_owned() };
    let wrong = format!("Authorization: {}\r\n", basic(&wrong));
    for (bytes, status) in [
        (request("", close, body), "401"),
        (request(&wrong, close, body), "401"),
        (format!("GET / HTTP/1.1\r\n{auth}{close}\r\n"), "405"),
        (format!("POST / HTTP/1.1\r\n{auth}Content-Length: 8388609\r\n\r\n"), "413"),
        (format!("POST / HTTP/1.1\r\n{auth}Content-Length: -1\r\n\r\n"), "400"),
        (format!("POST / HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n"), "413"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("POST / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(20_000)), "400"),
    ] {
        let answer = raw(port, bytes.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
    assert_eq!(ask(&servers[0], "getblockcount", json!([])), json!(0), "it still serves");
}

#[test]
fn connections_are_bounded() {
    let (_network, servers) = served(1);
    let port = servers[0].address().port();
    let open: Vec<TcpStream> =
        (0..64).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens")).collect();
    assert!(raw(port, b"").starts_with("HTTP/1.1 503 "));
    drop(open);
    // Each of the 64 threads ends when it sees its connection closed.
    let freed = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        call(port, &credentials(), "getblockcount", json!([])).is_ok()
    });
    assert!(freed);
}

#[test]
fn lost_replies_and_nodes_that_are_down_end_the_connection() {
    let (network, servers) = served(1);
    network.lock().expect("not poisoned").lose_replies(NodeId(0), 1);
    let port = servers[0].address().port();
    assert!(call(port, &credentials(), "getblockcount", json!([])).is_err());
    assert_eq!(ask(&servers[0], "getblockcount", json!([])), json!(0));
    network.lock().expect("not poisoned").stop(NodeId(0));
    assert!(call(port, &credentials(), "getblockcount", json!([])).is_err());
}

#[test]
fn stopped_server_takes_no_connection() {
    let (_network, mut servers) = served(1);
    let port = servers[0].address().port();
    servers[0].stop();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn bodies_of_all_sorts_get_bitcoinds_answers() {
    let (node, _data) = real(&[]);
    let (_network, servers) = served(1);
    let auth = basic(&credentials());
    for body in [
        r#"{"id":1,"method":"getblockcount"}"#,
        r#"{"id":"text","method":"getblockcount","params":[]}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"getblockcount"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"getblockcount"}"#,
        r#"{"jsonrpc":"2.0","method":"getblockcount"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"getblockcount"}"#,
        r#"{"jsonrpc":"3.0","id":1,"method":"getblockcount"}"#,
        r#"{"jsonrpc":2,"id":1,"method":"getblockcount"}"#,
        r#"{"id":1}"#,
        r#"{"id":1,"method":5}"#,
        r#"{"id":1,"method":"getblockcount","params":"x"}"#,
        r#"{"id":1,"method":"nosuchmethod"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"nosuchmethod"}"#,
        r#"{"id":1,"method":"getblockhash","params":[9]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"getblockhash","params":[9]}"#,
        r#"[{"id":1,"method":"getblockcount"},{"jsonrpc":"2.0","id":2,"method":"getblockhash","params":[9]}]"#,
        r#"[{"jsonrpc":"2.0","method":"getblockcount"},{"id":3,"method":"nosuchmethod"}]"#,
        r#"[{"jsonrpc":"2.0","method":"getblockcount"}]"#,
        "[]",
        "5",
        "{",
        "",
    ] {
        let (real_status, real_body) = post(node.port(), &basic(&node.credentials()), body).expect("an answer");
        let (status, answer) = post(servers[0].address().port(), &auth, body).expect("an answer");
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();
        assert_eq!((status, json(&answer)), (real_status, json(&real_body)), "{body}: {answer} / {real_body}");
    }
}

#[test]
fn bitcoin_cli_talks_to_it() {
    let (node, data) = real(&[]);
    let (_network, servers) = served(2);
    let address = OutsideWallet::new([1; 32]).address(AddressForm::Segwit).to_string();
    let cli = |arguments: &[&str]| {
        let output = Command::new(node.cli())
            .arg("-regtest")
            .arg(format!("-datadir={}", data.path().display()))
            .arg(format!("-rpcport={}", servers[0].address().port()))
            .args(["-rpcuser=florin", "-rpcpassword=florin"])
            .args(arguments)
            .output()
            .expect("bitcoin-cli runs");
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), out.trim().to_owned(), error.into_owned())
    };
    assert!(cli(&["generatetoaddress", "3", &address]).0);
    assert_eq!(cli(&["getblockcount"]), (true, "3".to_owned(), String::new()));
    let (ok, hash, _) = cli(&["getblockhash", "3"]);
    assert!(ok);
    let (ok, block, _) = cli(&["getblock", &hash, "2"]);
    assert!(ok && block.contains("\"value\": 50.00000000"), "{block}");
    let (ok, _, error) = cli(&["-named", "getblock", "blockhash=00"]);
    assert!(!ok && error.contains("error code: -8"), "{error}");
}
