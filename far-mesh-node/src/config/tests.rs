//! Settings from all three layers together.

use std::fs;

use super::*;

fn with_file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), text).unwrap();
    let mut sources = Sources::none(dir.path());
    sources.variables.push(("HOME".into(), "/home/someone".into()));
    (dir, sources)
}

fn load(role: Role, sources: &Sources) -> Result<Config, ConfigError> {
    Config::load(role, sources, Flags::default())
}

fn refusal(text: &str) -> String {
    let (_dir, sources) = with_file(text);
    load(Role::Provider, &sources).unwrap_err().to_string()
}

#[test]
fn a_flag_wins_over_a_variable_over_a_section_over_the_top_level() {
    let (_dir, mut sources) = with_file("http = 'top:1'\n[provider]\nhttp = 'section:2'\n");
    assert_eq!(load(Role::Coordinator, &sources).unwrap().http.to_string(), "top:1");
    let provider = load(Role::Provider, &sources).unwrap();
    assert_eq!(provider.http.to_string(), "section:2");
    assert!(provider.origin("http").to_string().ends_with("far-mesh.toml:3"));
    sources.variables.push(("FAR_MESH_HTTP".into(), "variable:3".into()));
    let config = load(Role::Provider, &sources).unwrap();
    assert_eq!(
        (config.http.to_string().as_str(), config.origin("http").to_string().as_str()),
        ("variable:3", "environment variable FAR_MESH_HTTP")
    );
    let flags = Flags { http: "flag:4".parse().ok(), ..Flags::default() };
    let config = Config::load(Role::Provider, &sources, flags).unwrap();
    assert_eq!((config.http.to_string().as_str(), config.origin("http")), ("flag:4", &Origin::Flag("--http")));
}

#[test]
fn defaults_are_those_of_the_role() {
    let (_dir, sources) = with_file("");
    for (role, http, listen) in [
        (Role::Coordinator, "127.0.0.1:8100", "/ip4/0.0.0.0/tcp/0"),
        (Role::Discovery, "127.0.0.1:8101", "/ip4/0.0.0.0/tcp/31337"),
        (Role::Provider, "127.0.0.1:8102", "/ip4/0.0.0.0/tcp/31330"),
    ] {
        let config = load(role, &sources).unwrap();
        assert_eq!((config.http.to_string().as_str(), config.listen[0].to_string().as_str()), (http, listen));
        assert_eq!(config.listen.len(), 2, "QUIC beside TCP");
    }
    let config = load(Role::Provider, &sources).unwrap();
    assert_eq!(config.data_dir, std::path::Path::new("/home/someone/.local/share/far-mesh"));
    assert_eq!(config.price_per_token, DEFAULT_PRICE);
    assert_eq!((config.model.as_str(), config.layers), (DEFAULT_MODEL, Layers::Auto));
}

#[test]
fn a_whole_file() {
    let (dir, sources) = with_file(
        "data_dir = 'data'\npsk = '~/mesh.key'\nthreads = 2\nprice_per_token_far = 0.000000001\n\
         bootstrap = ['/ip4/192.0.2.7/tcp/31337', '/dns4/mesh.example/tcp/31337']\n\
         [provider]\nlayers = '0..10'\nmax_memory = '6GiB'\nregion = 'eu'\n\
         [coordinator]\npostgres_url = 'postgres://far:geheim@db/far'\n",
    );
    let config = load(Role::Provider, &sources).unwrap();
    assert_eq!(config.data_dir, dir.path().join("data"));
    assert_eq!(config.psk, Some("/home/someone/mesh.key".into()));
    assert_eq!(
        (config.threads.get().get(), config.price_per_token.per_token().nano(), config.bootstrap.len()),
        (2, 1, 2)
    );
    assert_eq!(config.max_memory, Some(ByteSize(6 << 30)));
    assert_eq!(config.listen.len(), 1, "a private mesh has no QUIC");
    assert_eq!(config.postgres_url, None);
    let config = load(Role::Coordinator, &sources).unwrap();
    assert_eq!(config.postgres_url.as_ref().unwrap().expose(), "postgres://far:geheim@db/far");
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn payments_read_the_coordinators_section_where_their_own_is_silent() {
    let (dir, sources) = with_file(
        "data_dir = 'top'\n[coordinator]\ndata_dir = 'books'\npostgres_url = 'postgres://far:geheim@db/far'\n\
         [payments]\nrpc_url = 'https://node.example/geheim'\nchain_id = 31337\nkeystore = 'payer.json'\n\
         payout_minimum_far = 2.5\nconfirmations = 12\nmax_fee_gwei = 30\npayout_weeks = 2\n",
    );
    let config = load(Role::Payments, &sources).unwrap();
    assert_eq!(config.data_dir, dir.path().join("books"));
    assert_eq!(config.postgres_url.as_ref().unwrap().expose(), "postgres://far:geheim@db/far");
    let payments = &config.payments;
    assert_eq!((payments.chain_id.unwrap().get(), payments.payout_minimum.nano()), (31_337, 2_500_000_000));
    assert_eq!(payments.keystore, Some(dir.path().join("payer.json")));
    assert_eq!((payments.max_fee.unwrap().wei(), payments.payout_weeks.get().get()), (30_000_000_000, 2));
    assert!(!format!("{config:?}").contains("geheim"));
    assert!(load(Role::Coordinator, &sources).unwrap().payments.rpc_url.is_none(), "nobody else reads [payments]");
    let flags = Flags {
        payments: PaymentFlags { keystore: Some("other.json".into()), ..PaymentFlags::default() },
        ..Flags::default()
    };
    let config = Config::load(Role::Payments, &sources, flags).unwrap();
    assert_eq!(config.payments.keystore, Some(dir.path().join("other.json")));
    assert_eq!(config.origin("keystore"), &Origin::Flag("--keystore"));
}

#[test]
fn keys_are_required_where_others_reach_the_api() {
    for (file, required) in [
        ("", false),
        ("http = '0.0.0.0:8100'", true),
        ("http = '[::1]:8100'", false),
        ("http = 'api.example.org:8100'", true),
        ("http = '0.0.0.0:8100'\nrequire_keys = 'off'", false),
        ("require_keys = 'on'", true),
    ] {
        let (_dir, sources) = with_file(file);
        assert_eq!(load(Role::Coordinator, &sources).unwrap().keys_required(), required, "{file}");
    }
    let (_dir, sources) =
        with_file("[coordinator]\nfee_basis_points = 250\nkeep_receipts_days = 0\nstore_prompts = 'on'");
    let config = load(Role::Coordinator, &sources).unwrap();
    assert_eq!((config.fee.basis_points(), config.store_prompts), (250, StorePrompts::On));
    assert_eq!((config.keep_receipts.map(Days::get), config.keep_metrics), (Some(None), None));
}

#[test]
fn a_wrong_file_is_refused_with_line_value_and_remedy() {
    for (text, parts) in [
        ("\ntreads = 2", &["far-mesh.toml:2", "`treads`", "did you mean `threads`"][..]),
        ("[provder]\nhttp = 'a:1'", &["far-mesh.toml:1", "section `provder`", "did you mean `provider`"]),
        ("colour = 'red'", &["`colour`", "--help"]),
        ("[discovery]\nwallet = 'x'", &["far-mesh.toml:2", "`wallet`", "[discovery]", "[provider]"]),
        ("threads = true", &["threads is true or false", "a string or a number"]),
        ("threads = 0", &["threads = \"0\"", "1 to 1024"]),
        ("http = ['a:1']", &["http is an array", "a string or a number"]),
        ("listen = [1]", &["listen is an integer", "an array of strings"]),
        ("listen = ['0.0.0.0:1']", &["far-mesh.toml:1", "0.0.0.0:1", "/ip4/"]),
        ("price_per_token_far = -0.1", &["price_per_token_far = \"-0.1\"", "digits and one decimal point"]),
        ("price_per_token_far = 0.0000000001", &["9 decimals"]),
        ("[provider]\nwallet = '0x1234'", &["far-mesh.toml:2", "40 hexadecimal digits"]),
        ("wallet = '0x5aaEb6053F3E94C9b9A09f33669435E7Ef1BeAed'", &["checksum", "copy it again"]),
        ("wallet = '0x0000000000000000000000000000000000000000'", &["zero address"]),
        ("precision = 'exact'\nquantize = 'q8_0'", &["far-mesh.toml:1", "far-mesh.toml:2", "q8_0", "drop one"]),
        ("rpc_url = 'ftp://node'", &["far-mesh.toml:1", "(hidden)", "https://"]),
        ("[provider]\nchain_id = 1", &["`chain_id`", "[provider]", "[payments]"]),
        ("quantize = 'q2'", &["q2", "none, q8_0 or q4_0"]),
        ("fee_basis_points = 2.5", &["fee_basis_points", "2.5", "250 for 2.5 %"]),
        ("fee_basis_points = 10001", &["10001", "0 to 10000"]),
        ("keep_prompts_days = -1", &["keep_prompts_days", "0 for ever"]),
        ("require_keys = 'yes'", &["auto, on or off"]),
        ("store_prompts = true", &["store_prompts is true or false"]),
        ("a = 1\nb", &["far-mesh.toml:2:", "not valid TOML"]),
        ("psk = 'k'\nlisten = '/ip4/0.0.0.0/udp/1/quic-v1'", &["far-mesh.toml:2", "quic-v1", "far-mesh.toml:1", "tcp"]),
    ] {
        let err = refusal(text);
        assert!(parts.iter().all(|part| err.contains(part)), "{text:?}: {err}");
    }
}

#[test]
fn a_wrong_variable_is_refused_by_name() {
    for (name, value, part) in [
        ("FAR_MESH_HTTP", "8100", "HOST:PORT"),
        ("FAR_MESH_THREAD", "2", "did you mean `FAR_MESH_THREADS`?"),
        ("FAR_MESH_DHT_BOOTSTRAP", "/ip4/127.0.0.1/tcp/1,nonsense", "\"nonsense\""),
        ("PRICE_PER_TOKEN_FAR", "free", "0.0001"),
        ("POSTGRES_URL", "mysql://far:geheim@db", "(hidden)"),
    ] {
        let mut sources = Sources::none("/");
        sources.variables = vec![("HOME".into(), "/home/x".into()), (name.into(), value.into())];
        let err = load(Role::Coordinator, &sources).unwrap_err().to_string();
        assert!(err.contains(name) && err.contains(part) && !err.contains("geheim"), "{err}");
    }
}

#[test]
fn variables_of_a_platform_and_empty_ones_are_left_alone() {
    let mut sources = Sources::none("/");
    for (name, value) in [
        ("HOME", "/home/x"),
        ("FAR_MESH_SERVICE_HOST", "10.0.0.1"),
        ("FAR_MESH_PORT", "tcp://10.0.0.1:80"),
        ("FAR_MESH_TEST_MODEL", "/m.gguf"),
        ("FAR_MESH_LOG", "debug"),
        ("FAR_MESH_KEYSTORE_PASSWORD", "geheim"),
        ("FAR_MESH_HTTP", ""),
    ] {
        sources.variables.push((name.into(), value.into()));
    }
    assert_eq!(load(Role::Coordinator, &sources).unwrap().origin("http"), &Origin::Default);
}

#[test]
fn two_variables_of_a_setting_must_agree() {
    let mut sources = Sources::none("/");
    sources.variables = vec![
        ("HOME".into(), "/h".into()),
        ("FAR_MESH_BOOTSTRAP".into(), "/ip4/127.0.0.1/tcp/1".into()),
        ("FAR_MESH_DHT_BOOTSTRAP".into(), "/ip4/127.0.0.1/tcp/1".into()),
    ];
    assert_eq!(load(Role::Provider, &sources).unwrap().bootstrap.len(), 1);
    sources.variables[2].1 = "/ip4/127.0.0.1/tcp/2".into();
    assert!(matches!(load(Role::Provider, &sources), Err(ConfigError::Contradiction { .. })));
}

#[test]
fn a_file_that_was_named_must_exist_and_be_small() {
    let (dir, mut sources) = with_file("");
    sources.file = Some("absent.toml".into());
    assert!(load(Role::Tool, &sources).unwrap_err().to_string().contains("absent.toml"));
    fs::write(dir.path().join("model.gguf"), vec![0; 2 << 20]).unwrap();
    sources.file = Some("model.gguf".into());
    assert!(matches!(load(Role::Tool, &sources), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn without_a_home_a_data_folder_must_be_named() {
    let sources = Sources::none("/");
    assert!(matches!(load(Role::Tool, &sources), Err(ConfigError::NoDataDir)));
    let flags = Flags { data_dir: Some("d".into()), ..Flags::default() };
    assert_eq!(Config::load(Role::Tool, &sources, flags).unwrap().data_dir, std::path::Path::new("/d"));
}
