//! A certificate authority and what it signs, by openssl with EC keys: three files take half a second together. Every
//! file of a folder: `ca.crt`, `ca.key`, and `NAME.crt`, `NAME.key` for each that is issued.

use crate::machine::run_here;
use anyhow::Result;
use std::path::{Path, PathBuf};

const DAYS: &str = "30";

/// The authority and its folder.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes the authority; `name` is its common name.
    pub fn new(folder: &Path, name: &str) -> Result<Certificates> {
        std::fs::create_dir_all(folder)?;
        let authority = Certificates {
            folder: folder.to_path_buf(),
        };
        run_here(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            DAYS,
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &authority.path("ca.key"),
            "-out",
            &authority.path("ca.crt"),
        ])?;
        Ok(authority)
    }

    /// A key and a certificate for servers and clients alike. `subject` as in `/O=system:masters/CN=admin`;
    /// `names` are entries such as `DNS:localhost` and `IP:192.0.2.1`.
    pub fn issue(&self, name: &str, subject: &str, names: &[&str]) -> Result<()> {
        let (key, request, certificate) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.csr")),
            self.path(&format!("{name}.crt")),
        );
        run_here(&[
            "openssl",
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            subject,
            "-keyout",
            &key,
            "-out",
            &request,
        ])?;
        let mut extensions = "extendedKeyUsage=serverAuth,clientAuth\n".to_owned();
        if !names.is_empty() {
            extensions.push_str(&format!("subjectAltName={}\n", names.join(",")));
        }
        let file = self.path(&format!("{name}.ext"));
        std::fs::write(&file, extensions)?;
        run_here(&[
            "openssl",
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &self.path("ca.crt"),
            "-CAkey",
            &self.path("ca.key"),
            "-CAcreateserial",
            "-days",
            DAYS,
            "-extfile",
            &file,
            "-out",
            &certificate,
        ])
        .map(drop)
    }

    /// One of the files.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Base64 of one of the files on one line, as kubeconfigs hold it.
    pub fn base64(&self, file: &str) -> Result<String> {
        Ok(run_here(&["base64", "-w0", &self.path(file)])?.stdout)
    }
}
