use super::*;

fn with_file(text: &str, args: ConfigArgs) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidelake.toml");
    std::fs::write(&path, text).unwrap();
    ConfigArgs {
        config: Some(path),
        ..args
    }
    .resolve()
}

#[test]
fn defaults_pass_their_own_check() {
    assert_eq!(ConfigArgs::default().resolve().unwrap(), Config::default());
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let file = "listen = '0.0.0.0:1'\nmax_body_bytes = 77\ns3_allow_http = true\n";
    let config = with_file(
        file,
        ConfigArgs {
            listen: Some("127.0.0.1:2".into()),
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!(config.listen, "127.0.0.1:2");
    assert_eq!(config.max_body_bytes, 77);
    assert!(config.s3_allow_http);
    assert_eq!(config.node, Config::default().node);
}

#[test]
fn every_flag_is_a_key_and_every_key_is_a_flag() {
    use clap::{Args as _, Command};
    let command = ConfigArgs::augment_args(Command::new("x"));
    let mut flags: Vec<String> = command
        .get_arguments()
        .map(|a| a.get_id().to_string())
        .filter(|id| id != "config" && id != "help")
        .collect();
    let serde_json::Value::Object(map) = serde_json::to_value(Config::default()).unwrap() else {
        panic!("not an object")
    };
    let mut keys: Vec<String> = map.keys().cloned().collect();
    flags.sort();
    keys.sort();
    assert_eq!(flags, keys);
    for arg in command.get_arguments().filter(|a| a.get_id() != "help") {
        let expected = format!("TIDELAKE_{}", arg.get_id().as_str().to_uppercase());
        assert_eq!(
            arg.get_env().and_then(|e| e.to_str()),
            Some(expected.as_str())
        );
    }
}

#[test]
fn a_wrong_setting_is_named() {
    let check = |file: &str, expected: &str| {
        let message = with_file(file, ConfigArgs::default())
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message} lacks {expected}");
    };
    check("max_boddy_bytes = 1", "max_boddy_bytes");
    check("max_body_bytes = 'big'", "max_body_bytes");
    check("max_body_bytes = 0", "max_body_bytes");
    check("node = 'a/b'", "node");
    check("store = 'gs://x'", "gs");
    check("store = 's3:///x'", "bucket");
    check("max_inflight_body_bytes = 5", "max_inflight_body_bytes");
    check("listen = ", "tidelake.toml");
    check(
        "gc_grace_ms = 120000",
        "gc_grace_ms (120000) must be greater than query_timeout_ms (120000)",
    );
    check("query_timeout_ms = 300000", "gc_grace_ms");
    check("max_fresh_segments = 63", "at least 64");
    check("self_monitoring_interval_ms = 99", "at least 100");
    check("value_layout = 'double'", "value_layout");
    check("otlp_delta = 'drop'", "otlp_delta");
    check(
        "otlp_translation_strategy = 'x'",
        "otlp_translation_strategy",
    );
    check(
        "otlp_promote_all_resource_attributes = true\notlp_promote_resource_attributes = ['a']",
        "exclude each other",
    );
    check(
        "otlp_ignore_resource_attributes = ['a']",
        "otlp_ignore_resource_attributes needs",
    );
    check("tls_cert = 'a'", "tls_cert and tls_key");
    check("tls_client_ca = 'a'", "tls_client_ca needs");
    check("auth = true\ninsecure_no_auth = true", "contradict");
}

#[test]
fn stores_are_told_apart() {
    let check = |store: Option<&str>, expected: StoreLocation| {
        let config = Config {
            store: store.map(str::to_owned),
            ..Config::default()
        };
        assert_eq!(config.store_location().unwrap(), expected);
    };
    check(None, StoreLocation::Folder("./data".into()));
    check(Some("memory:"), StoreLocation::Memory);
    check(
        Some("/var/lib/x"),
        StoreLocation::Folder("/var/lib/x".into()),
    );
    check(
        Some("file:///var/lib/x"),
        StoreLocation::Folder("/var/lib/x".into()),
    );
    check(
        Some("s3://b/p/q/"),
        StoreLocation::S3 {
            bucket: "b".into(),
            prefix: "p/q".into(),
        },
    );
    check(
        Some("s3://b"),
        StoreLocation::S3 {
            bucket: "b".into(),
            prefix: "".into(),
        },
    );
}
