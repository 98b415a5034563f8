//! Images made here, without a registry and without an engine: one layer with static programs.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Error, IoContext, Result};

/// An image of one layer, with any number of names.
#[derive(Debug, Clone)]
pub struct Image {
    names: Vec<String>,
    files: Vec<(PathBuf, String)>,
    entrypoint: Vec<String>,
}

impl Image {
    /// An image of one static program that is its entry point; `names` as a pod would write them (`local/hello:1`).
    pub fn of_program(program: &Path, names: &[&str]) -> Self {
        let file = program.file_name().map_or_else(|| "program".into(), |name| name.to_string_lossy());
        let inside = format!("/{file}");
        Self {
            names: names.iter().map(|name| full_name(name)).collect(),
            files: vec![(program.to_path_buf(), inside.clone())],
            entrypoint: vec![inside],
        }
    }

    /// With arguments after the program.
    #[must_use]
    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.entrypoint.extend(args.iter().map(ToString::to_string));
        self
    }

    /// With one more static program, at its own name in the root directory.
    #[must_use]
    pub fn with_program(mut self, program: &Path) -> Self {
        let file = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.files.push((program.to_path_buf(), format!("/{file}")));
        self
    }

    /// Writes it as a docker-archive.
    ///
    /// # Errors
    /// When a program cannot be read or the file not written.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let mut layer = Tar::default();
        for (from, inside) in &self.files {
            layer.add(inside.trim_start_matches('/'), 0o755, &std::fs::read(from).at("read", from)?)?;
        }
        let layer = layer.finish();
        let digest = format!("{:x}", Sha256::digest(&layer));
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": self.names, "Layers": ["layer.tar"]}]);
        let mut whole = Tar::default();
        whole.add("config.json", 0o644, config.to_string().as_bytes())?;
        whole.add("layer.tar", 0o644, &layer)?;
        whole.add("manifest.json", 0o644, manifest.to_string().as_bytes())?;
        let mut file = std::fs::File::create(archive).at("create", archive)?;
        file.write_all(&whole.finish()).at("write", archive)
    }
}

/// The name as container runtimes keep it: with the registry and the directory that short names leave out.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// A tar file in memory (ustar): regular files only.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

const BLOCK: usize = 512;

impl Tar {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.bytes.extend(header(name, mode, content.len())?);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

/// One header block: fields of fixed width, numbers in octal, and a checksum over all with blanks in its own place.
fn header(name: &str, mode: u32, size: usize) -> Result<Vec<u8>> {
    let fields: [(&str, usize); 10] = [
        (name, 100),
        (&format!("{mode:07o}"), 8),
        ("0000000", 8),
        ("0000000", 8),
        (&format!("{size:011o}"), 12),
        ("00000000000", 12),
        ("        ", 8),
        ("0", 1),
        ("", 100),
        ("ustar\u{0}00", 8),
    ];
    let mut block = Vec::with_capacity(BLOCK);
    for (value, width) in fields {
        if value.len() > width {
            return Err(Error::Unsupported(format!("{value} is too long for an image")));
        }
        block.extend_from_slice(value.as_bytes());
        block.resize(block.len() + width - value.len(), 0);
    }
    block.resize(BLOCK, 0);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let checksum = format!("{sum:06o}\0 ");
    block.splice(148..156, checksum.bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn short_names_get_what_they_leave_out() {
        assert_eq!(full_name("hello:1"), "docker.io/library/hello:1");
        assert_eq!(full_name("local/hello:1"), "docker.io/local/hello:1");
        assert_eq!(full_name("localhost/hello:1"), "localhost/hello:1");
        assert_eq!(full_name("registry.test:5000/a/b:1"), "registry.test:5000/a/b:1");
    }

    #[test]
    fn tar_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("hello");
        std::fs::write(&program, "x".repeat(1000)).unwrap();
        let archive = dir.path().join("image.tar");
        Image::of_program(&program, &["local/hello:1"]).with_args(&["--loud"]).write(&archive).unwrap();
        let status = Command::new("tar").arg("xf").arg(&archive).current_dir(dir.path()).status().unwrap();
        assert!(status.success());
        let manifest = std::fs::read_to_string(dir.path().join("manifest.json")).unwrap();
        assert!(manifest.contains("docker.io/local/hello:1"), "{manifest}");
        let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(config.contains(r#"["/hello","--loud"]"#), "{config}");
        let listed = Command::new("tar").arg("tvf").arg(dir.path().join("layer.tar")).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.starts_with("-rwxr-xr-x") && listed.contains("1000"), "{listed}");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        assert!(header(&"x".repeat(101), 0o644, 0).is_err());
    }
}
