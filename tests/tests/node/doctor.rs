//! `far-mesh doctor`, and what a node says of a device or a key it cannot have.

use serde_json::Value;

use super::process::{Running, far_mesh, run, temporary};

#[tokio::test]
async fn the_device_named_is_the_one_that_works() {
    let dir = temporary();
    let ran = run(&dir, &["doctor", "--json"]).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of = |what: &str| findings.iter().find(|finding| finding["what"] == what);
    for what in ["processor", "memory", "data folder"] {
        assert_eq!(of(what).unwrap_or_else(|| panic!("{what}: {report}"))["state"], "ok", "{report}");
    }
    // A machine with a GPU that works says so; any other says what is missing.
    let device = report["device"].as_str().unwrap();
    let (index, forced) = match device {
        "cpu" => {
            let missing = of("CUDA").or_else(|| of("cuda:0")).unwrap_or_else(|| panic!("{report}"));
            assert_eq!(missing["state"], "absent", "{report}");
            ("cuda:0", (Some(1), false))
        }
        gpu => {
            assert!(of(gpu).unwrap()["found"].as_str().unwrap().contains("trial kernel ran"), "{report}");
            (gpu, (Some(0), true))
        }
    };
    let ran = run(&dir, &["doctor", "--device", index, "--json"]).await;
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, report.get("device").is_some()), forced, "{ran:?}");
    let text = run(&dir, &["doctor", "--device", "cpu"]).await;
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.contains("layers are computed on cpu"), "{text:?}");
}

#[tokio::test]
async fn a_gpu_that_is_not_there_is_refused_before_anything_is_fetched() {
    let dir = temporary();
    let ran = run(&dir, &["provider", "run", "--device", "cuda:63", "--model", "no-such-model"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("--device cuda:63") && ran.stderr.contains("doctor"), "{ran:?}");
    assert!(!ran.stderr.contains("no-such-model"), "{ran:?}");
}

#[tokio::test]
async fn two_nodes_do_not_share_a_key() {
    const NODE: [&str; 6] = ["discovery", "--json", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];
    let dir = temporary();
    let start = || {
        let mut command = far_mesh(&dir);
        command.args(NODE);
        Running::start(command)
    };
    let mut first = start();
    assert!(first.line().await.unwrap().contains("ready"));
    let second = run(&dir, &NODE).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("discovery.key") && second.stderr.contains("--data-dir"), "{second:?}");
    // However the first ends, the key is free then.
    first.kill().await;
    let mut third = start();
    assert!(third.line().await.unwrap().contains("ready"));
    third.interrupt().await;
    assert!(third.end().await.0.success());
}
