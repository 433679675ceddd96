//! The files that are loaded, and their later versions.

use anyhow::{Context as _, Result};
use penstock_tests::telemetry::{self, Format, Load};
use std::{
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
};

/// Objects of the large load.
pub const N_OBJECTS: u64 = 4;
/// Of the generator.
const SEED: u64 = 20_260_101;
/// Level of gzip of the first version, and of the later one with the same rows.
const LEVELS: [u32; 2] = [1, 2];
/// The version that is all rows in one object.
const LARGE: &str = "large";

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Data {
    directory: PathBuf,
    /// Rows of the large load.
    pub n_rows: u64,
    /// Rows of all small objects.
    pub n_small_rows: u64,
    /// Small objects.
    pub n_small: u64,
}

impl Data {
    /// Writes everything.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(directory: &Path, n_rows: u64, n_small_rows: u64, n_small: u64, formats: &[Format]) -> Result<Self> {
        let data = Self { directory: directory.to_owned(), n_rows, n_small_rows, n_small };
        for format in formats {
            for (version, changed, level) in [("v1", 0, LEVELS[0]), ("v2-0", 0, LEVELS[1])] {
                data.write_version(*format, version, changed, level, N_OBJECTS)?;
            }
            for changed in [10, 100] {
                data.write_version(*format, &format!("v2-{changed}"), changed, LEVELS[0], N_OBJECTS)?;
            }
            data.write_version(*format, LARGE, 0, LEVELS[0], 1)?;
        }
        let load = Load::new(SEED + 1, n_small_rows);
        let small = data.small();
        fs::create_dir_all(&small)?;
        for index in 0..n_small {
            let file = create(&small.join(format!("part-{index:05}.ndjson.gz")))?;
            telemetry::write_lean(Format::Ndjson, LEVELS[0], load.events(load.object(index, n_small)), file)?;
        }
        Ok(data)
    }

    fn write_version(&self, format: Format, version: &str, changed: u64, level: u32, n_objects: u64) -> Result<()> {
        let load = Load::new(SEED, self.n_rows).changed(changed);
        let directory = self.version(format, version);
        fs::create_dir_all(&directory)?;
        for index in 0..n_objects {
            let file = create(&directory.join(format!("part-{index:05}.{}", format.extension())))?;
            telemetry::write_lean(format, level, load.events(load.object(index, n_objects)), file)?;
        }
        Ok(())
    }

    fn version(&self, format: Format, version: &str) -> PathBuf {
        self.directory.join(format!("{}-{version}", format.extension()))
    }

    /// Puts a version where the importer looks for it, and returns that place.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub fn put(&self, format: Format, version: &str) -> Result<PathBuf> {
        let place = self.directory.join(format!("current-{}", format.extension()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place)?;
        for entry in fs::read_dir(self.version(format, version))? {
            let entry = entry?;
            fs::hard_link(entry.path(), place.join(entry.file_name()))?;
        }
        Ok(place)
    }

    /// Returns the directory of one object with all rows of the large load.
    pub fn large(&self, format: Format) -> PathBuf {
        self.version(format, LARGE)
    }

    /// Returns the directory of small objects.
    pub fn small(&self) -> PathBuf {
        self.directory.join("small")
    }

    /// Returns the directory of objects whose key is a uuid.
    pub fn uuids(&self) -> PathBuf {
        self.directory.join("uuids")
    }

    /// Returns a file of prepared binary rows.
    pub fn prepared(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.bin"))
    }
}

fn create(path: &Path) -> Result<BufWriter<fs::File>> {
    Ok(BufWriter::new(fs::File::create(path).with_context(|| format!("create {}", path.display()))?))
}
