use crate::files::{Checkpoint, FileError};
use burn::module::Module;
use std::fmt;
use std::sync::Arc;

/// Blocks that stay in their checkpoint until they are read, so that at most one of them is in memory at a
/// time. Clones share everything.
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
pub struct BlockFiles<B>(Arc<Inner<B>>);

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
        let files = BlockFiles(Arc::new(Inner {
            checkpoint: checkpoint.clone(),
            path: path.to_string(),
            len,
            init: Box::new(init),
            ignore: Box::new(ignore),
        }));
        let inner = &files.0;
        for index in 0..len {
            let block = (inner.init)(index);
            checkpoint.check_part(block, &files.prefix(index), &inner.ignore)?;
        }
        Ok(files)
    }

    /// A block of the right shape, without data: what
    /// [`Blockwise::outline`](crate::train::Blockwise::outline) puts in the place of one that is not in memory.
    pub fn outline(&self, index: usize) -> B {
        (self.0.init)(index)
    }

    /// Reads a block.
    ///
    /// # Errors
    ///
    /// When the files have changed since they were checked.
    pub fn read(&self, index: usize) -> Result<B, FileError> {
        let inner = &self.0;
        let block = (inner.init)(index);
        (inner.checkpoint).load_part(block, &self.prefix(index), &inner.ignore)
    }
}

impl<B> BlockFiles<B> {
    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Whether a tensor of the files belongs to a block.
    pub fn contains(&self, tensor: &str) -> bool {
        let rest = tensor.strip_prefix(self.0.path.as_str());
        let index = rest.and_then(|rest| rest.strip_prefix('.')?.split('.').next()?.parse().ok());
        index.is_some_and(|index: usize| index < self.0.len)
    }

    fn prefix(&self, index: usize) -> String {
        format!("{}.{index}.", self.0.path)
    }
}

impl<B> Clone for BlockFiles<B> {
    fn clone(&self) -> Self {
        BlockFiles(self.0.clone())
    }
}

impl<B> fmt::Debug for BlockFiles<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockFiles")
            .field("dir", &self.0.checkpoint.dir())
            .field("path", &self.0.path)
            .field("len", &self.0.len)
            .finish()
    }
}
