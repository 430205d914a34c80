use super::*;
use crate::{config, failure};

const RELAY: &str = r#"
[node]
id = "hk-relay-1"
region = "hk"
[tls]
ca = "ca.pem"
cert = "node.pem"
key = "/etc/longspan/node.key"
[controller]
urls = ["http://127.0.0.1:7440"]
[admin]
"#;

fn load(text: &str, sets: &[&str], env: &[(&str, &str)]) -> Outcome<Document> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("relay.toml");
    fs::write(&file, text).expect("written");
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Document::load_in(&file, None, &sets, |name| {
        let found = env.iter().find(|(known, _)| *known == name)?;
        Some(found.1.to_owned())
    })
}

fn refused(text: &str) -> String {
    let failure = load(text, &[], &[]).expect_err("refused");
    assert_eq!(failure.kind, failure::Kind::Usage);
    failure.to_string()
}

#[test]
fn file_then_environment_then_flags() {
    let env = [
        ("LONGSPAN_QUIC_LISTEN", "127.0.0.1:1"),
        ("LONGSPAN_QUIC_ADVERTISE", "192.0.2.1:1, [2001:db8::1]:2"),
        ("LONGSPAN_NODE_CITY", "Hong Kong"),
        ("LONGSPAN_CONTROLLER", "http://not.a.key"),
    ];
    let document = load(RELAY, &["quic.listen=127.0.0.1:2", "node.lat=22.3"], &env).expect("fine");
    assert_eq!(document.role(), Role::Relay);
    let relay: config::Relay = document.parse().expect("it parses");
    assert_eq!(relay.node.id.as_str(), "hk-relay-1");
    assert_eq!(relay.node.city, "Hong Kong");
    assert_eq!(relay.node.lat, 22.3);
    assert_eq!(relay.quic.listen.port(), 2);
    assert_eq!(relay.quic.advertise.len(), 2);
    assert!(relay.tls.ca.is_absolute() && relay.tls.ca.ends_with("ca.pem"));
    assert_eq!(relay.tls.key, Path::new("/etc/longspan/node.key"));
    assert_eq!(relay.admin.listen.port(), 9090);
    let key = keys::of(Role::Relay).find(|key| key.path == "quic.listen");
    let (value, source) = document.value(key.expect("a key"));
    assert_eq!(value.as_deref(), Some("127.0.0.1:2"));
    assert_eq!(source, Source::Flag);
}

#[test]
fn unknown_keys_are_refused_naming_the_nearest() {
    let refused_line = |line: &str| refused(&format!("{RELAY}{line}"));
    let told = refused_line("lisen = \"127.0.0.1:1\"");
    assert!(
        told.contains("unknown key admin.lisen (did you mean admin.listen?)"),
        "{told}"
    );
    let told = refused_line("[quik]\nlisten = \"127.0.0.1:1\"");
    assert!(
        told.contains("unknown key quik (did you mean quic?)"),
        "{told}"
    );
    let told = refused_line("city = \"Hong Kong\"");
    assert!(
        told.contains("unknown key admin.city (did you mean node.city?)"),
        "{told}"
    );
    let told = refused("speed = 1");
    assert!(told.contains("unknown key speed"), "{told}");
    let told = load(RELAY, &["node.regon=hk"], &[])
        .expect_err("refused")
        .to_string();
    assert!(told.contains("did you mean node.region?"), "{told}");
}

#[test]
fn values_that_do_not_fit_are_named() {
    let told = refused(&RELAY.replace("[admin]", "[admin]\nlisten = \"localhost\""));
    assert!(
        told.contains("admin.listen = localhost: it must be ip:port"),
        "{told}"
    );
    let told = refused(&RELAY.replace("id = \"hk-relay-1\"", ""));
    assert!(told.contains("node.id is missing"), "{told}");
    assert!(told.contains("LONGSPAN_NODE_ID"), "{told}");
    let told = refused(&format!("{RELAY}\nx = = 1"));
    assert!(told.contains("line 13"), "{told}");
    let told = load(RELAY, &[], &[("LONGSPAN_NODE_LAT", "north")]).expect_err("refused");
    assert!(
        told.to_string()
            .contains("LONGSPAN_NODE_LAT=\"north\": it must be number")
    );
    // A name that the key list cannot judge.
    let document = load(&RELAY.replace("\"hk\"", "\"Hong Kong\""), &[], &[]).expect("keys fit");
    let told = document
        .parse::<config::Relay>()
        .expect_err("refused")
        .to_string();
    assert!(told.contains("Hong Kong") && told.contains("a-z"), "{told}");
}

#[test]
fn an_edge_and_a_controller_parse() {
    let edge = format!(
        "{RELAY}[http]\nlisten = \"127.0.0.1:8080\"\n[rtmp]\nlisten = \"127.0.0.1:1935\"\n\
         [auth]\nopen = true\n[sample]\nroom = \"demo\"\nstream = \"teacher\"\n[lab]\nworld = \"world.json\"\n"
    );
    let document = load(&edge, &[], &[]).expect("fine");
    assert_eq!(document.role(), Role::Edge);
    let edge: config::Edge = document.parse().expect("it parses");
    assert!(edge.auth.open);
    assert!(edge.relay.lab.is_some());

    let controller = "[controller]\nid = \"controller-1\"\n[store]\nkind = \"embedded\"\n\
                      path = \"store.redb\"\n[admin]\ntoken_file = \"token\"\n";
    let document = load(controller, &[], &[]).expect("fine");
    assert_eq!(document.role(), Role::Controller);
    let parsed: config::Controller = document.parse().expect("it parses");
    assert!(parsed.tls.is_none());
    assert!(matches!(
        parsed.store,
        config::Store::Embedded {
            clear_leases: false,
            ..
        }
    ));
    let document = load(&controller.replace("embedded", "etdc"), &[], &[]).expect("keys fit");
    let told = document
        .parse::<config::Controller>()
        .expect_err("refused")
        .to_string();
    assert!(told.contains("etdc"), "{told}");
}

#[test]
fn changes_are_found_for_a_reload() {
    let before = load(RELAY, &[], &[]).expect("fine");
    let after = load(
        &format!("{RELAY}[log]\nlevel = \"debug\"\n"),
        &["node.city=HK"],
        &[],
    );
    let changes = before.changes(&after.expect("fine"));
    let paths: Vec<&str> = changes.iter().map(|key| key.path).collect();
    // The paths of files differ too: each test file stands in a folder of its own.
    assert!(
        paths.contains(&"node.city") && paths.contains(&"log.level"),
        "{paths:?}"
    );
    assert!(!paths.contains(&"node.id"));
}
