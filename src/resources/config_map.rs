//! The `ConfigMap` of a component: `config.properties`, mounted at `/etc/e6data`.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Release, Strings, strings};
use api::MetadataServicesSpec;
use api::names::{self, Component};

/// The mount path in the containers.
pub const MOUNT_PATH: &str = "/etc/e6data";
/// The name of the file, and the key in the `ConfigMap`.
pub const FILE: &str = "config.properties";

/// Renders the `ConfigMap`. The API server keeps it immutable: the configuration of a release never changes (invariant I11).
pub fn config_map(release: &Release<'_>, component: Component) -> ConfigMap {
    let text = properties(&settings(release, component));
    ConfigMap {
        metadata: release.meta(names::config(&release.owner.name, component, release.color), component),
        data: Some(strings([(FILE, text.as_str())])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// Returns the automatic settings, overridden by the user's.
fn settings(release: &Release<'_>, component: Component) -> Strings {
    let spec = release.template.spec();
    let workspace = workspace(spec, &release.owner.namespace);
    let automatic = [
        ("CLOUD", spec.cloud.as_deref().or_else(|| spec.storage_backend.as_deref().and_then(cloud_of))),
        ("WORKSPACE", Some(workspace)),
        ("TENANT", spec.tenant.as_deref()),
        ("E6_BUCKET", spec.storage_backend.as_deref()),
        ("S3_ENDPOINT", spec.s3_endpoint.as_deref()),
    ];
    let mut settings: Strings =
        automatic.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    settings.extend(spec.component(component).config.clone());
    settings
}

/// Returns the workspace: the spec's, else the namespace.
pub fn workspace<'a>(spec: &'a MetadataServicesSpec, namespace: &'a str) -> &'a str {
    spec.workspace.as_deref().unwrap_or(namespace)
}

/// Returns the cloud that the scheme of a bucket names.
fn cloud_of(backend: &str) -> Option<&'static str> {
    match backend.split_once("://")?.0 {
        "s3" | "s3a" => Some("AWS"),
        "gs" => Some("GCP"),
        "abfs" | "abfss" | "wasb" | "wasbs" => Some("AZURE"),
        _ => None,
    }
}

/// Renders a Java properties file, sorted by key.
pub fn properties(settings: &Strings) -> String {
    settings.iter().fold(String::new(), |mut text, (key, value)| {
        escape(key, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
        text
    })
}

/// Escapes text like `java.util.Properties.store`, whose readers expect ISO 8859-1.
fn escape(source: &str, key: bool, text: &mut String) {
    for (index, char) in source.chars().enumerate() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{c}' => text.push_str("\\f"),
            // White space ends a key, and a reader skips it at the start of a value.
            ' ' if key || index == 0 => text.push_str("\\ "),
            '=' | ':' | '#' | '!' if key => {
                text.push('\\');
                text.push(char);
            }
            ' '..='~' => text.push(char),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\\u{unit:04X}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_escaped_and_sorted() {
        let settings = strings([
            ("b", " two  spaces"),
            ("a", "line\nnext\\end"),
            ("c=d e", "x=y: #!"),
            ("u", "é😀\u{7}"),
        ]);
        assert_eq!(
            properties(&settings),
            "a=line\\nnext\\\\end\nb=\\ two  spaces\nc\\=d\\ e=x=y: #!\nu=\\u00E9\\uD83D\\uDE00\\u0007\n"
        );
    }

    #[test]
    fn the_scheme_names_the_cloud() {
        assert_eq!(cloud_of("s3a://b"), Some("AWS"));
        assert_eq!(cloud_of("gs://b"), Some("GCP"));
        assert_eq!(cloud_of("abfss://c@a.dfs.core.windows.net"), Some("AZURE"));
        assert_eq!(cloud_of("hdfs://b"), None);
        assert_eq!(cloud_of("b"), None);
    }
}
