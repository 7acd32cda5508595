//! `far-mesh bench`: that its figures are there and can be true.

use serde_json::Value;

use super::process::{run, temporary};

#[tokio::test]
async fn the_figures_are_there_and_can_be_true() {
    let dir = temporary();
    let model = far_mesh_tests::model();
    let args =
        ["bench", "--providers", "2", "--sessions", "4", "--rounds", "3", "--json", "--model", model.to_str().unwrap()];
    let ran = run(&dir, &args).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let figure =
        |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {report}"));
    for path in ["/one_process", "/mesh"] {
        let (decode, prefill) =
            (figure(&format!("{path}/decode_tokens_per_s")), figure(&format!("{path}/prefill_tokens_per_s")));
        assert!(0.0 < decode && decode < prefill, "{report}");
    }
    assert_eq!((figure("/mesh/providers"), figure("/sessions/count")), (2.0, 4.0));
    assert!(figure("/sessions/total_tokens_per_s") > 0.0, "{report}");

    let (packed, peak) = (figure("/packed_bytes"), figure("/peak_rss_bytes"));
    let file = std::fs::metadata(&model).unwrap().len() as f64;
    assert!(0.9 * file < packed && packed < 1.1 * file, "{packed} of {file}");
    assert!(packed < peak && peak < 3.0 * packed, "weights, their file, the arena: {report}");
    // Twice, because the machine may be busier when the bandwidth is taken than when tokens were.
    let limit = figure("/read_bandwidth_gb_per_s") * 1e9 / packed;
    assert!(figure("/one_process/decode_tokens_per_s") < 2.0 * limit, "no token without reading the weights: {report}");
}

#[tokio::test]
async fn without_providers_one_process_is_measured_alone() {
    let dir = temporary();
    let model = far_mesh_tests::model();
    let args = ["bench", "--providers", "0", "--rounds", "1", "--json", "--model", model.to_str().unwrap()];
    let ran = run(&dir, &args).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["one_process"]["decode_tokens_per_s"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report.get("mesh").is_none() && report.get("sessions").is_none(), "{report}");
}
