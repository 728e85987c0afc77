//! Writes the tar entries (POSIX.1-1988 ustar) of an image archive: files and folders. Times are zero and owners root, so
//! that the same content gives the same bytes.

use std::io::{self, Write};

const BLOCK: usize = 512;

/// A tar archive that is being written.
pub(super) struct Archive<W> {
    to: W,
}

// === impl Archive ===

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Archive<W> {
        Archive { to }
    }

    /// `mode` is the permission bits, as for chmod(1).
    pub(super) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.to.write_all(&header(&format!("{path}/"), mode, 0, b'5')?)
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.to.write_all(&header(path, mode, content.len(), b'0')?)?;
        self.to.write_all(content)?;
        let rest = content.len() % BLOCK;
        if rest > 0 {
            self.to.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }

    /// Writes the two empty blocks that end an archive.
    pub(super) fn end(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }
}

fn header(path: &str, mode: u32, size: usize, kind: u8) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    if path.len() > 100 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path}: the path is longer than 100 bytes"),
        ));
    }
    let mut put =
        |offset: usize, text: &[u8]| block[offset..offset + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    // For the checksum, its own field counts as spaces.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_the_archive() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("tmp", 0o1777).unwrap();
        archive.file("tmp/greeting", 0o644, b"hello\n").unwrap();
        let bytes = archive.end().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);

        let path = std::env::temp_dir().join(format!("agimo-tar-test-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let listed =
            Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&path).output().unwrap();
        let content =
            Command::new("tar").args(["-xOf"]).arg(&path).arg("tmp/greeting").output().unwrap();
        std::fs::remove_file(path).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("drwxrwxrwt 0/0") && listed.contains("tmp/greeting"), "{listed}");
        assert_eq!(content.stdout, b"hello\n");
    }
}
