//! Bad configurations, key by key: each is refused with its code, none panics and none is ignored.

use super::*;

/// Another platform's configuration, with every key that can be said.
const WHOLE: &str = r#"
[platform]
id = "00000000-0000-4000-8000-000000000000"
node = "one"
data = "data"
archive = "archive"
snapshot_rows = 100000
[store]
kind = "mariadb"
url_file = "mariadb.url"
prefix = "florin"
takeover_ms = 2000
[api]
listen = "127.0.0.1:7700"
url = "https://florin.example"
token_file = "operator.token"
[signer]
socket = "signer/signer.sock"
[bitcoin]
network = "main"
quorum = 2
trust = "quorum"
start_height = 2016
start_hash = "00000000693067b0e6b440bc51450b9f3850561b07f6d3c021c54fbd6abb9763"
fee_floor_sat_kvb = 1000
fee_cap_sat_kvb = 500000
stale_s = 7200
[[bitcoin.node]]
name = "a"
url = "http://127.0.0.1:18443"
auth_file = "a.auth"
group = "home"
[[bitcoin.node]]
name = "b"
url = "http://127.0.0.1:18444"
auth_file = "b.auth"
group = "away"
"#;

fn read(text: &str) -> Result<Config, Failure> {
    Config::parse(text, PathBuf::new())
}

/// The whole one with `key`'s first line replaced; without a value the line is left out.
fn with(key: &str, value: Option<&str>) -> String {
    let prefix = format!("{key} = ");
    let mut text = String::new();
    let mut is_done = false;
    for line in WHOLE.lines() {
        match (line.starts_with(&prefix) && !is_done, value) {
            (true, Some(value)) => text.push_str(&format!("{key} = {value}\n")),
            (true, None) => {}
            (false, _) => text.push_str(&format!("{line}\n")),
        }
        is_done |= line.starts_with(&prefix);
    }
    assert!(is_done, "there is a line for {key}");
    text
}

fn refused(text: &str) -> (&'static str, String) {
    let failure = read(text).expect_err(text);
    (failure.code(), failure.to_string())
}

fn keys() -> Vec<&'static str> {
    WHOLE.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect()
}

#[test]
fn the_template_is_a_configuration() {
    let config = Config::parse(TEMPLATE, PathBuf::from("/srv/florin")).expect("the template is right");
    assert_eq!(config.data(), PathBuf::from("/srv/florin/data"));
    assert_eq!(config.bitcoin.network, "regtest");
    read(WHOLE).expect("with every key");
    // What it shows in comments is right as well, and it leaves no key out.
    for key in keys() {
        assert!(TEMPLATE.contains(&format!("{key} = ")), "{key} is not in the template");
    }
    let maria = TEMPLATE.replace("kind = \"sqlite\"\n", "").replace("# kind", "kind").replace("# url", "url");
    let maria = maria.replace("# prefix", "prefix").replace("# takeover_ms", "takeover_ms");
    let config = read(&maria).expect("the other store");
    assert!(matches!(config.store, StoreConfig::Mariadb { takeover_ms: 2_000, .. }) && config.api.url.is_some());
}

#[test]
fn a_fresh_platform_has_its_own_id() {
    let config = read(&fresh([7; 16])).expect("a fresh file is right");
    assert_eq!(config.platform_id(), [7; 16]);
}

#[test]
fn every_bad_value_is_refused_and_its_key_named() {
    let long = |count: usize| format!("\"{}\"", "x".repeat(count));
    let (long_name, long_url) = (long(65), format!("\"http://{}:1\"", "x".repeat(200)));
    let (long_socket, long_path) = (long(108), long(5_000));
    let names = ["\"\"", "\" \"", "\"a \"", "\"a\\u0000\"", "\"a\\nb\"", "7", &long_name];
    let paths = ["\"\"", "\"a\\u0000b\"", "7", &long_path];
    let numbers = ["-1", "0", "1.5", "\"1\"", "true", "nan", "inf", "9223372036854775807", "18446744073709551616"];
    let urls = [
        "\"\"",
        "\"x\"",
        "\"ftp://foo\"",
        "\"HTTP:/a\"",
        "\"http://\"",
        "\"http://:8332\"",
        "\"http://a:\"",
        "\"http://a:0\"",
        "\"http://a:65536\"",
        "\"http://a:x\"",
        "\"http://user:word@a:1\"",
        "\"http://a:1/?x\"",
        "\"http://a:1/#x\"",
        "\"http://a b\"",
        "\"http://\u{e4}\"",
        "\"127.0.0.1:8332\"",
        "7",
        &long_url,
    ];
    let table: &[(&str, &[&str])] = &[
        ("id", &["\"\"", "\"one\"", "\"00000000-0000-4000-8000-00000000000G\"", "7"]),
        ("node", &names),
        ("data", &paths),
        ("archive", &paths),
        ("snapshot_rows", &["9", "10000001"]),
        ("snapshot_rows", &numbers),
        ("kind", &["\"\"", "\"SQLite\"", "\"postgres\"", "\"sqlite\"", "7"]),
        ("url_file", &paths),
        ("prefix", &["\"\"", "\"Florin\"", "\"a-b\"", "\"a`b\"", "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"", "7"]),
        ("takeover_ms", &["1499", "600001"]),
        ("takeover_ms", &numbers),
        ("listen", &["\"\"", "\"localhost:1\"", "\"127.0.0.1\"", "\"127.0.0.1:65536\"", "7700"]),
        ("url", &urls),
        ("token_file", &paths),
        ("token_file", &["\"mariadb.url\"", "\"a.auth\"", "\"b.auth\""]),
        ("socket", &["\"\"", "\"a\\u0000b\"", "7", &long_socket]),
        ("network", &["\"\"", "\"Main\"", "\"mainnet\"", "\"testnet\"", "7"]),
        ("quorum", &["3", "1"]),
        ("quorum", &numbers),
        ("trust", &["\"\"", "\"single\"", "\"both\"", "true"]),
        ("start_height", &["2015", "0", "10000001", "4294967295", "4294967296"]),
        ("start_height", &numbers),
        ("start_hash", &["\"\"", "\"zz\"", "\"00\"", "7"]),
        ("fee_floor_sat_kvb", &["500001"]),
        ("fee_floor_sat_kvb", &numbers),
        ("fee_cap_sat_kvb", &["999", "20000001"]),
        ("fee_cap_sat_kvb", &numbers),
        ("stale_s", &["1", "599", "2592001"]),
        ("stale_s", &numbers),
        ("name", &names),
        ("name", &["\"b\""]),
        ("auth_file", &paths),
        ("auth_file", &["\"operator.token\"", "\"mariadb.url\"", "\"./operator.token\""]),
        ("group", &names),
        ("group", &["\"away\""]),
    ];
    for (key, values) in table {
        for value in *values {
            let (code, text) = refused(&with(key, Some(value)));
            assert!(["config_invalid", "start_hash_invalid", "start_height_invalid"].contains(&code), "{code}");
            // One group too few shows where groups are counted, and a hash where heights are.
            let others: &[&str] = match *key {
                "group" => &["quorum"],
                "quorum" => &["trust"],
                "start_height" => &["start_hash", "retarget period"],
                "fee_cap_sat_kvb" => &["fee_floor_sat_kvb"],
                "token_file" => &["auth_file", "url_file"],
                "kind" => &["mariadb"],
                _ => &[],
            };
            let named = text.contains(key) || others.iter().any(|other| text.contains(other));
            assert!(named && text.len() < 6_000, "{key} = {value}: {text}");
        }
    }
    let missing: Vec<_> = keys().into_iter().filter(|key| !table.iter().any(|(tried, _)| tried == key)).collect();
    assert!(missing.is_empty(), "no bad value was tried for {missing:?}");
}

#[test]
fn addresses_of_nodes_are_read_like_any_other() {
    let node = |url: &str| WHOLE.replacen("\"http://127.0.0.1:18443\"", url, 1);
    for url in [
        "\"ftp://foo\"",
        "\"https://a:1\"",
        "\"http://u@a:1\"",
        "\"http://a:1/?w\"",
        "\"\"",
        "\"http://127.0.0.1:18444/\"",
    ] {
        let (code, text) = refused(&node(url));
        assert!(code == "config_invalid" && text.contains("bitcoin.node.url"), "{url}: {text}");
    }
    for url in [
        "\"http://node\"",
        "\"http://[::1]:8332\"",
        "\"http://NODE:8332/wallet/w\"",
        "\"http://127.0.0.1:18444/other\"",
    ] {
        read(&node(url)).unwrap_or_else(|failure| panic!("{url}: {failure}"));
    }
}

#[test]
fn one_node_is_named_once_however_its_address_is_spelt() {
    let two = |first: &str, second: &str| {
        let text = WHOLE.replacen("\"http://127.0.0.1:18443\"", &format!("\"{first}\""), 1);
        text.replacen("\"http://127.0.0.1:18444\"", &format!("\"{second}\""), 1)
    };
    for (first, second) in [
        ("http://localhost:8332", "http://127.0.0.1:8332"),
        ("http://LOCALHOST:8332", "http://localhost.:8332/"),
        ("http://[::1]:8332", "http://127.0.0.1:8332"),
        ("http://0.0.0.0:8332", "http://ip6-localhost:8332"),
        ("http://[::]:8332", "http://node.localhost:8332"),
        ("http://[::ffff:127.0.0.1]:8332", "http://localhost:8332"),
        ("http://[::ffff:192.0.2.7]:8332", "http://192.0.2.7:8332"),
        ("http://[2001:db8::1]:8332", "http://[2001:DB8:0:0:0:0:0:1]:8332"),
        ("http://a.example:8332", "http://A.example.:8332"),
        ("http://a.example", "http://a.example:80"),
        ("http://a.example:8332", "http://a.example:8332/wallet/w"),
        ("http://a.example:8332/wallet/v", "http://a.example:8332/wallet/w"),
    ] {
        let (code, text) = refused(&two(first, second));
        assert!(code == "config_invalid" && text.contains("one node has one voice"), "{first} and {second}: {text}");
        assert!(text.contains(first) && text.contains(second), "{text}");
    }
    for (first, second) in [
        ("http://localhost:8332", "http://127.0.0.1:8333"),
        ("http://127.0.0.1:8332", "http://127.0.0.2:8332"),
        ("http://127.0.1.1:8332", "http://localhost:8332"),
        ("http://127.0.0.2:8332", "http://[::ffff:127.0.0.3]:8332"),
        ("http://192.0.2.7:8332", "http://192.0.2.8:8332"),
        ("http://a.example:8332", "http://b.example:8332"),
        ("http://a.example/one", "http://a.example/two"),
    ] {
        read(&two(first, second)).unwrap_or_else(|failure| panic!("{first} and {second}: {failure}"));
    }
    for url in ["http://127.1:8332", "http://2130706433:8332", "http://0x7f.1:8332", "http://127.0.0.256:8332"] {
        let (code, text) = refused(&two(url, "http://127.0.0.1:8332"));
        assert!(code == "config_invalid" && text.contains("four numbers"), "{url}: {text}");
    }
}

#[test]
fn a_key_is_there_or_may_be_left_out_and_none_is_unknown() {
    for key in keys() {
        let without = read(&with(key, None));
        let may_be_left_out = ["archive", "snapshot_rows", "takeover_ms", "url"].contains(&key);
        assert_eq!(without.is_ok(), may_be_left_out, "{key}: {without:?}");
        let misspelt = WHOLE.replacen(&format!("\n{key} = "), &format!("\n{key}x = "), 1);
        assert!(read(&misspelt).is_err(), "{key}x");
        let twice = WHOLE.replacen(&format!("\n{key} = "), &format!("\n{key} = 1\n{key} = "), 1);
        assert!(read(&twice).is_err(), "{key} twice");
    }
    assert_eq!(refused(&with("start_hash", None)).0, "start_hash_missing");
    for (section, more) in [("[platform]", "a = 1"), ("[store]", "a = 1"), ("[api]", "a = 1"), ("[bitcoin]", "a = 1")] {
        assert!(refused(&WHOLE.replacen(section, &format!("{section}\n{more}"), 1)).1.contains("unknown field"));
    }
    for key in ["url_file = \"x\"", "prefix = \"x\"", "takeover_ms = 2000"] {
        let text = TEMPLATE.replacen("kind = \"sqlite\"", &format!("kind = \"sqlite\"\n{key}"), 1);
        assert!(refused(&text).1.contains("mariadb"), "{key}");
    }
    for text in ["", "nonsense", "[platform]", "\u{0}", "[[platform]]\n[[platform]]"] {
        assert_eq!(refused(text).0, "config_invalid", "{text:?}");
    }
}

#[test]
fn the_first_block_is_said_once_and_not_otherwise() {
    let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    let with_hash =
        |hash: &str| TEMPLATE.replacen("start_height = 0", &format!("start_height = 0\nstart_hash = \"{hash}\""), 1);
    read(&with_hash(genesis)).expect("regtest's own first block");
    assert_eq!(refused(&with_hash("zz")).0, "start_hash_invalid");
    let (code, text) = refused(&with_hash(&"0".repeat(64)));
    assert!(code == "config_invalid" && text.contains(genesis), "{text}");
    assert_eq!(refused(&TEMPLATE.replacen("start_height = 0", "start_height = 7", 1)).0, "start_hash_missing");
}

#[test]
fn the_greatest_numbers_that_are_taken_break_nothing() {
    let text = TEMPLATE.replacen("stale_s = 0", "stale_s = 2592000", 1);
    let text = text.replacen("fee_cap_sat_kvb = 500000", "fee_cap_sat_kvb = 20000000", 1);
    let text = text.replacen("fee_floor_sat_kvb = 1000", "fee_floor_sat_kvb = 20000000", 1);
    let chain = crate::platform::ChainPart::of(&read(&text).expect("in range")).expect("nobody is asked");
    assert_eq!(chain.tip_age_max_ms, Some(2_592_000_000));
    // Whoever makes a configuration without reading one stops late, and does not panic.
    let mut config = read(TEMPLATE).expect("right");
    config.bitcoin.stale_s = u64::MAX;
    assert_eq!(crate::platform::ChainPart::of(&config).expect("a chain").tip_age_max_ms, Some(u64::MAX));
}

#[test]
fn a_configuration_is_known_by_its_words_alone() {
    let text = |folder: &str, text: &str| Config::parse(text, PathBuf::from(folder)).expect("right").canonical();
    let one = text("/srv/one", WHOLE);
    assert_eq!(one, text("relative", &WHOLE.replace('\n', "\n# Said.\n\n").replace(" = ", "    =  ")));
    for (key, value) in [("node", "\"two\""), ("stale_s", "7201"), ("takeover_ms", "2001"), ("auth_file", "\"c.auth\"")]
    {
        assert_ne!(one, text("/srv/one", &with(key, Some(value))), "{key}");
    }
    assert_eq!(one, text("/srv/one", &with("takeover_ms", None)), "what holds where nothing is said");
}

#[test]
fn a_configuration_is_a_file_of_a_bounded_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let huge = folder.path().join("huge");
    File::create(&huge).and_then(|file| file.set_len(1 << 40)).expect("a file with a hole");
    for path in [&pipe, &huge, folder.path(), Path::new("/dev/zero")] {
        let failure = Config::read(path).expect_err("refused");
        assert_eq!(failure.code(), "config_unreadable", "{failure}");
        assert!(failure.to_string().contains(&path.display().to_string()), "{failure}");
    }
    let padded = |size: usize| format!("{}#{}", fresh([7; 16]), " ".repeat(size - fresh([7; 16]).len() - 1));
    let path = folder.path().join("florin.toml");
    std::fs::write(&path, padded(1 << 20)).expect("written");
    assert!(Config::read(&path).is_ok(), "all of it is read");
    std::fs::write(&path, padded((1 << 20) + 1)).expect("written");
    assert_eq!(Config::read(&path).expect_err("too large").code(), "config_unreadable");
}
