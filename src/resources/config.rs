//! The `ConfigMap` of a component: `config.properties`, mounted at `/etc/e6data`.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Release, Strings, strings};

use api::MetadataServicesSpec;
use api::names::{self, Component};

/// Where the containers see the file.
pub const MOUNT_PATH: &str = "/etc/e6data";
/// Name of the file, and key in the `ConfigMap`.
pub const FILE: &str = "config.properties";

/// Renders it. It is immutable on the server too: a release's configuration never changes (invariant I11).
pub fn config_map(release: &Release<'_>, component: Component) -> ConfigMap {
    let text = properties(&settings(release, component));
    ConfigMap {
        metadata: release.meta(names::config(&release.owner.name, component, release.color), component),
        data: Some(strings([(FILE, text.as_str())])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The automatic settings, and over them the user's.
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

/// The workspace: the spec's, or the namespace.
pub fn workspace<'a>(spec: &'a MetadataServicesSpec, namespace: &'a str) -> &'a str {
    spec.workspace.as_deref().unwrap_or(namespace)
}

/// The cloud that a bucket's scheme tells.
fn cloud_of(backend: &str) -> Option<&'static str> {
    match backend.split_once("://")?.0 {
        "s3" | "s3a" => Some("AWS"),
        "gs" => Some("GCP"),
        "abfs" | "abfss" | "wasb" | "wasbs" => Some("AZURE"),
        _ => None,
    }
}

/// A Java properties file, sorted by key.
pub fn properties(settings: &Strings) -> String {
    settings.iter().fold(String::new(), |mut text, (key, value)| {
        escape(key, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
        text
    })
}

/// Escapes as `java.util.Properties.store` does, whose readers expect ISO 8859-1.
fn escape(source: &str, key: bool, text: &mut String) {
    for (index, char) in source.chars().enumerate() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{c}' => text.push_str("\\f"),
            // White space ends a key and is skipped at the beginning of a value.
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
    fn the_cloud_is_told_by_the_scheme() {
        assert_eq!(cloud_of("s3a://b"), Some("AWS"));
        assert_eq!(cloud_of("gs://b"), Some("GCP"));
        assert_eq!(cloud_of("abfss://c@a.dfs.core.windows.net"), Some("AZURE"));
        assert_eq!(cloud_of("hdfs://b"), None);
        assert_eq!(cloud_of("b"), None);
    }
}
