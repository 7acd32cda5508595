//! What `config.json` says about rotary positions.

use super::settings::{Settings, shortened};
use crate::model::{ConfigError, RopeScaling};

/// Base of the wave lengths where old files of Llama and Mistral name none.
const DEFAULT_THETA: f32 = 10_000.0;

/// Base and scaling: `rope_parameters` in newer files, `rope_theta` and `rope_scaling` in older ones.
pub(super) fn rope(settings: Settings<'_>, has_default: bool) -> Result<(f32, RopeScaling), ConfigError> {
    let newer = settings.object("rope_parameters", "rope_parameters.")?;
    let older = settings.object("rope_scaling", "rope_scaling.")?;
    let rope = match (newer, older) {
        (Some(_), Some(_)) => return Err(ConfigError::NotApplied("rope_parameters beside rope_scaling".to_owned())),
        (rope, None) | (None, rope) => rope,
    };
    let inner = rope.filter(|rope| rope.get("rope_theta").is_some());
    let default = has_default.then_some(DEFAULT_THETA);
    let theta = inner.unwrap_or(settings).float("rope_theta", default)?;
    Ok((theta, rope.map_or(Ok(RopeScaling::None), scaling)?))
}

fn scaling(rope: Settings<'_>) -> Result<RopeScaling, ConfigError> {
    const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
    let name = match (rope.text("rope_type")?, rope.text("type")?) {
        (Some(one), Some(other)) if one != other => return Err(rope.bad("type", format!("rope_type's {one:?}"))),
        (one, other) => one.or(other).unwrap_or("default"),
    };
    if rope.float("partial_rotary_factor", Some(1.0))? != 1.0 {
        return Err(rope.bad("partial_rotary_factor", "1"));
    }
    let (scaling, known): (_, &[&str]) = match name {
        "default" => (RopeScaling::None, &[]),
        "linear" => (RopeScaling::Linear(rope.float("factor", None)?), &["factor"]),
        "llama3" => {
            let (low, high) = (rope.float("low_freq_factor", None)?, rope.float("high_freq_factor", None)?);
            if high <= low {
                return Err(rope.bad("high_freq_factor", format!("more than low_freq_factor, {low}")));
            }
            let scaling = RopeScaling::Llama3 {
                factor: rope.float("factor", None)?,
                low,
                high,
                context_tokens: rope.float("original_max_position_embeddings", None)?,
            };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
        }
        other => return Err(ConfigError::Rope { found: other.to_owned() }),
    };
    match rope.keys().find(|key| !COMMON.contains(key) && !known.contains(key)) {
        Some(key) => Err(ConfigError::NotApplied(format!(
            "{key} = {} in its rope scaling {name:?}",
            rope.get(key).map(shortened).unwrap_or_default()
        ))),
        None => Ok(scaling),
    }
}
