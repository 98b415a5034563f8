//! Reads free-form fields of a spec as Kubernetes types.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads a free-form value as a Kubernetes type. Returns an error for a field that the type would drop, because a
/// release must not silently lack a misspelled field.
pub fn typed<T: Serialize + DeserializeOwned>(value: &Value) -> Result<T, String> {
    let typed: T =
        serde_json::from_value(value.clone()).map_err(|error| format!("{error}: correct the value"))?;
    let kept = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    match dropped(value, &kept) {
        None => Ok(typed),
        Some(path) => Err(format!("unknown field {path}: correct or remove the field")),
    }
}

/// Returns the path of the first member of `given` that is missing in `kept`.
fn dropped(given: &Value, kept: &Value) -> Option<String> {
    let below = |name: String, given: &Value, kept: Option<&Value>| match kept {
        None => Some(name),
        Some(kept) => dropped(given, kept).map(|rest| format!("{name}.{rest}")),
    };
    match (given, kept) {
        (Value::Object(map), _) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| below(name.clone(), value, kept.get(name))),
        (Value::Array(items), _) => items
            .iter()
            .enumerate()
            .find_map(|(index, value)| below(index.to_string(), value, kept.get(index))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Affinity, Volume};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quantity_can_be_a_number() {
        let volume: Volume = typed(&json!({"name": "tmp", "emptyDir": {"sizeLimit": 1}})).unwrap();
        assert_eq!(volume.empty_dir.unwrap().size_limit.unwrap().0, "1");
    }

    #[test]
    fn an_unknown_field_is_an_error_with_its_path() {
        let error = typed::<Volume>(&json!({"name": "ca", "configmap": {"name": "x"}})).unwrap_err();
        assert!(error.contains("configmap"), "{error}");
        let error =
            typed::<Affinity>(&json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": {"matchExpression": []}}]}}))
            .unwrap_err();
        assert!(
            error.contains(
                "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.preference.matchExpression"
            ),
            "{error}"
        );
        assert!(typed::<Volume>(&json!({"emptyDir": {}})).is_ok_and(|volume| volume.name.is_empty()));
    }
}
