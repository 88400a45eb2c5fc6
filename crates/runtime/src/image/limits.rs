//! How much an image may ask of the machine.

/// How much an image may ask of the machine, whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Layers in one image. Docker's own limit is 127.
    pub layers: usize,
    /// Bytes of one blob as it is fetched. The largest public ML layers are about 15 GB.
    pub blob_bytes: u64,
    /// Bytes of all files of one image, unpacked. CUDA development images with a model reach 60 GB.
    pub unpacked_bytes: u64,
    /// Files, folders and links in one layer. A large Python environment has about 300,000.
    pub entries: u64,
    /// Unpacked bytes for each packed one. Text packs 20 to 1 and zeroes 1000 to 1; real layers stay below 30.
    pub ratio: u64,
    /// Bytes of a manifest, an index or a configuration. Registries refuse more than 4 MiB.
    pub document_bytes: u64,
}

impl ImageLimits {
    /// Below this a layer may pack as well as it likes: a few blocks of zeroes are no bomb.
    pub const RATIO_FREE_BYTES: u64 = 64 << 20;
    /// Bytes of headers before one file in a layer: long names and attributes.
    pub const HEADER_BYTES: u64 = 1 << 20;
    /// Components in a path.
    pub const PATH_DEPTH: usize = 128;
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            layers: 127,
            blob_bytes: 32 << 30,
            unpacked_bytes: 96 << 30,
            entries: 2_000_000,
            ratio: 100,
            document_bytes: 4 << 20,
        }
    }
}
