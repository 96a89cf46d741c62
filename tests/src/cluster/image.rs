//! Images without a registry: an archive as `docker save` writes it, made from files of this machine.
//!
//! Archives are kept under a name that holds a hash of all that is in them, so that one is made anew only when
//! something in it changed.

use crate::machine::run_here;
use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// One image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Names the archive.
    pub name: String,
    /// Full names with tag.
    pub tags: Vec<String>,
    /// What runs, and with which arguments where the pod says nothing.
    pub entrypoint: Vec<String>,
    /// Arguments where the pod says nothing.
    pub arguments: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    File(PathBuf),
    Text(String, u32),
    Link(String),
    Folder(u32),
}

impl Image {
    /// An empty one, for root, with / as its folder.
    pub fn new(name: &str, tags: &[&str], entrypoint: &[&str], arguments: &[&str]) -> Image {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Image {
            name: name.into(),
            tags: own(tags),
            entrypoint: own(entrypoint),
            arguments: own(arguments),
            entries: BTreeMap::new(),
        }
        .text(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )
        .text("/etc/group", "root:x:0:\nnobody:x:65534:\n")
        .text(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        )
        .folder("/tmp", 0o1777)
        .folder("/root", 0o700)
    }

    /// Programs and libraries lie below /usr with links from the root, as in Debian: ldd names them without /usr, and
    /// programs look for what they load by name with it.
    fn entry(mut self, to: &str, entry: Entry) -> Image {
        let path = to.trim_start_matches('/');
        let (first, _) = path.split_once('/').unwrap_or_default();
        if matches!(first, "bin" | "sbin" | "lib" | "lib64") {
            let link = Entry::Link(format!("usr/{first}"));
            self.entries.insert(first.into(), link);
            self.entries.insert(format!("usr/{path}"), entry);
        } else {
            self.entries.insert(path.into(), entry);
        }
        self
    }

    /// A text file.
    pub fn text(self, to: &str, text: &str) -> Image {
        self.entry(to, Entry::Text(text.into(), 0o644))
    }

    /// A symbolic link.
    pub fn link(self, to: &str, target: &str) -> Image {
        self.entry(to, Entry::Link(target.into()))
    }

    /// An empty folder.
    pub fn folder(self, to: &str, mode: u32) -> Image {
        self.entry(to, Entry::Folder(mode))
    }

    /// A static program, or any file with its mode.
    pub fn file(self, to: &str, from: &Path) -> Image {
        self.entry(to, Entry::File(from.to_path_buf()))
    }

    /// A program of this machine at its own place, with the libraries that ldd names.
    pub fn program(mut self, name: &str) -> Result<Image> {
        let path = find_program(name)?;
        let text = run_here(&["ldd", &path])
            .map(|outcome| outcome.stdout)
            .unwrap_or_default();
        for library in parse_ldd(&text) {
            self = self.file(&library, Path::new(&library));
        }
        Ok(self.file(&path, Path::new(&path)))
    }

    /// The archive in `folder`, made if it is not there.
    pub fn archive(&self, folder: &Path) -> Result<PathBuf> {
        let key = self
            .key()
            .with_context(|| format!("read what goes into image {}", self.name))?;
        let path = folder.join(format!("{}-{}.tar", self.name, &key[..16]));
        if !path.exists() {
            std::fs::create_dir_all(folder)?;
            remove_older(folder, &self.name)?;
            let part = folder.join(format!(".{}-{}", self.name, std::process::id()));
            self.write(&part)
                .with_context(|| format!("make image {}", self.name))?;
            std::fs::rename(&part, &path)?;
        }
        Ok(path)
    }

    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{:?}{:?}{:?}",
            self.tags, self.entrypoint, self.arguments
        ));
        for (to, entry) in &self.entries {
            hash.update(format!("\n{to}\0{entry:?}\0"));
            if let Entry::File(from) = entry {
                let mut file =
                    std::fs::File::open(from).with_context(|| from.display().to_string())?;
                std::io::copy(&mut file, &mut Hashing(&mut hash))?;
            }
        }
        Ok(hex(&hash.finalize()))
    }

    fn write(&self, path: &Path) -> Result<()> {
        let layer = path.with_extension("layer");
        self.write_layer(&layer)?;
        let mut hash = Sha256::new();
        std::io::copy(&mut std::fs::File::open(&layer)?, &mut Hashing(&mut hash))?;
        let layer_id = hex(&hash.finalize());
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Entrypoint": self.entrypoint, "Cmd": self.arguments, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_id}")]},
        })
        .to_string();
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let layer_name = format!("{layer_id}/layer.tar");
        let manifest =
            json!([{"Config": config_name, "RepoTags": self.tags, "Layers": [layer_name]}])
                .to_string();
        let mut archive = tar::Builder::new(std::fs::File::create(path)?);
        append(&mut archive, &config_name, config.as_bytes(), 0o644)?;
        append(&mut archive, "manifest.json", manifest.as_bytes(), 0o644)?;
        archive.append_file(&layer_name, &mut std::fs::File::open(&layer)?)?;
        archive.into_inner()?.flush()?;
        Ok(std::fs::remove_file(layer)?)
    }

    fn write_layer(&self, path: &Path) -> Result<()> {
        let mut layer = tar::Builder::new(std::fs::File::create(path)?);
        for folder in self.folders() {
            append_folder(&mut layer, &folder, 0o755)?;
        }
        for (to, entry) in &self.entries {
            match entry {
                Entry::Folder(mode) => append_folder(&mut layer, to, *mode)?,
                Entry::Text(text, mode) => append(&mut layer, to, text.as_bytes(), *mode)?,
                Entry::Link(target) => {
                    let mut header = header(0, 0o777, tar::EntryType::Symlink);
                    layer.append_link(&mut header, to, target)?;
                }
                Entry::File(from) => {
                    let mut content = Vec::new();
                    let mut file = std::fs::File::open(from)?;
                    file.read_to_end(&mut content)?;
                    use std::os::unix::fs::PermissionsExt;
                    append(
                        &mut layer,
                        to,
                        &content,
                        file.metadata()?.permissions().mode() & 0o7777,
                    )?;
                }
            }
        }
        Ok(layer.into_inner()?.flush()?)
    }

    /// All folders above entries, the highest first.
    fn folders(&self) -> std::collections::BTreeSet<String> {
        let above = self.entries.keys().flat_map(|path| {
            Path::new(path)
                .ancestors()
                .skip(1)
                .map(|folder| folder.to_string_lossy().into_owned())
        });
        above.filter(|folder| !folder.is_empty()).collect()
    }
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append(
    archive: &mut tar::Builder<std::fs::File>,
    to: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = header(content.len() as u64, mode, tar::EntryType::Regular);
    Ok(archive.append_data(&mut header, to, content)?)
}

fn append_folder(archive: &mut tar::Builder<std::fs::File>, to: &str, mode: u32) -> Result<()> {
    let mut header = header(0, mode, tar::EntryType::Directory);
    Ok(archive.append_data(&mut header, format!("{to}/"), std::io::empty())?)
}

fn remove_older(folder: &Path, name: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let stem = file
            .strip_suffix(".tar")
            .and_then(|stem| stem.rsplit_once('-'));
        if stem.is_some_and(|(of, _)| of == name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn find_program(name: &str) -> Result<String> {
    ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| Path::new(path).exists())
        .with_context(|| {
            format!("{name} is not on this machine: scripts/install-deps.sh e2e installs it")
        })
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, and the loader by its own path.
fn parse_ldd(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(parse_ldd(text), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
        assert!(parse_ldd("\tstatically linked\n").is_empty());
    }

    #[test]
    fn what_ldd_names_without_usr_lies_below_usr() {
        let image = Image::new("one", &[], &[], &[]).text("/lib/x/a.so", "a");
        assert!(image.entries.contains_key("usr/lib/x/a.so"));
        assert!(matches!(image.entries.get("lib"), Some(Entry::Link(to)) if to == "usr/lib"));
        assert!(image.folders().iter().all(|folder| folder != "lib"));
    }

    #[test]
    fn an_archive_is_made_once_and_anew_when_its_content_changes() {
        let folder = tempfile::tempdir().unwrap();
        let image =
            |text: &str| Image::new("one", &["example/one:1"], &["/x"], &[]).text("/x", text);
        let first = image("a").archive(folder.path()).unwrap();
        assert_eq!(first, image("a").archive(folder.path()).unwrap());
        let second = image("b").archive(folder.path()).unwrap();
        assert_ne!(first, second);
        assert!(!first.exists() && second.exists());
    }
}
