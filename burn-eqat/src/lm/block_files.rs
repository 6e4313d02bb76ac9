use crate::StoredBlock;
use crate::files::{Checkpoint, FileError};
use burn::module::Module;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Blocks that stay in their checkpoint until they are read, so that at most one of them is in memory at a
/// time. Blocks that a phase has finished come from its run directory instead. Clones share everything that is read.
///
/// ```no_run
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_eqat::files::Checkpoint;
/// use burn_eqat::lm::BlockFiles;
///
/// let device = Device::flex();
/// let checkpoint = Checkpoint::open("model".as_ref())?;
/// let block = move |_index| LinearConfig::new(64, 64).init(&device);
/// let blocks: BlockFiles<Linear> = BlockFiles::new(&checkpoint, "layers", 12, block, |_| false)?;
/// // `layers.3.weight` and `layers.3.bias`.
/// let fourth = blocks.read(3)?;
/// # Ok::<_, burn_eqat::files::FileError>(())
/// ```
pub struct BlockFiles<B> {
    inner: Arc<Inner<B>>,
    /// Those that are read from elsewhere.
    stored: BTreeMap<usize, StoredBlock>,
}

struct Inner<B> {
    checkpoint: Checkpoint,
    /// Path of the list of blocks in the model, `model.layers` say.
    path: String,
    len: usize,
    init: Box<dyn Fn(usize) -> B + Send + Sync>,
    ignore: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl<B: Module> BlockFiles<B> {
    /// The blocks of a checkpoint. Checks in its headers that all of them exist.
    ///
    /// `path` is the path of the list of blocks in the model: the names of block 3's tensors begin with
    /// `{path}.3.`. `init` makes a block of the right shape, whose weights are not used (a new Burn module
    /// allocates none of them). `ignore` says which tensors of the files need no parameter in the block.
    ///
    /// # Errors
    ///
    /// When a tensor of a block is missing, unexpected, or of another shape or type.
    pub fn new(
        checkpoint: &Checkpoint,
        path: &str,
        len: usize,
        init: impl Fn(usize) -> B + Send + Sync + 'static,
        ignore: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let files = BlockFiles {
            inner: Arc::new(Inner {
                checkpoint: checkpoint.clone(),
                path: path.to_string(),
                len,
                init: Box::new(init),
                ignore: Box::new(ignore),
            }),
            stored: BTreeMap::new(),
        };
        let inner = &files.inner;
        for index in 0..len {
            let block = (inner.init)(index);
            checkpoint.check_part(block, &files.prefix(index), &inner.ignore)?;
        }
        Ok(files)
    }

    /// A block of the right shape, without data: what
    /// [`Blockwise::outline`](crate::train::Blockwise::outline) puts in the place of one that is not in memory.
    pub fn outline(&self, index: usize) -> B {
        (self.inner.init)(index)
    }

    /// Has a block read from a run directory from here on; see [`Blockwise::store_block`](crate::train::Blockwise::store_block).
    pub fn store(&mut self, index: usize, block: StoredBlock) {
        self.stored.insert(index, block);
    }

    /// Where a block is read from, if not from the checkpoint.
    pub fn stored(&self, index: usize) -> Option<&StoredBlock> {
        self.stored.get(&index)
    }

    /// Reads a block.
    ///
    /// # Errors
    ///
    /// When the files have changed since they were checked.
    pub fn read(&self, index: usize) -> Result<B, FileError> {
        let inner = &self.inner;
        let block = (inner.init)(index);
        if let Some(stored) = self.stored(index) {
            return stored.read(block);
        }
        (inner.checkpoint).load_part(block, &self.prefix(index), &inner.ignore)
    }
}

impl<B> BlockFiles<B> {
    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.inner.len == 0
    }

    /// Whether a tensor of the files belongs to a block.
    pub fn contains(&self, tensor: &str) -> bool {
        let rest = tensor.strip_prefix(self.inner.path.as_str());
        let index = rest.and_then(|rest| rest.strip_prefix('.')?.split('.').next()?.parse().ok());
        index.is_some_and(|index: usize| index < self.inner.len)
    }

    fn prefix(&self, index: usize) -> String {
        format!("{}.{index}.", self.inner.path)
    }
}

impl<B> Clone for BlockFiles<B> {
    fn clone(&self) -> Self {
        BlockFiles {
            inner: self.inner.clone(),
            stored: self.stored.clone(),
        }
    }
}

impl<B> fmt::Debug for BlockFiles<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockFiles")
            .field("dir", &self.inner.checkpoint.dir())
            .field("path", &self.inner.path)
            .field("len", &self.inner.len)
            .field("stored", &self.stored.len())
            .finish()
    }
}
