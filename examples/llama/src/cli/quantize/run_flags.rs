//! What a run directory needs to know of the flags.

use super::Args;
use crate::cli::run::RunFlags;
use std::path::{Path, PathBuf};

impl RunFlags for Args {
    const COMMAND: &'static str = "quantize";

    fn resume(&self) -> Option<&Path> {
        self.resume.as_deref()
    }

    fn run(&self) -> Option<&Path> {
        self.run.as_deref()
    }

    fn made(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    fn force(&self) -> bool {
        self.force
    }

    fn inputs(&mut self) -> Vec<&mut PathBuf> {
        let inputs = [
            &mut self.model,
            &mut self.calibration,
            &mut self.calibration_tokens,
            &mut self.eval_text,
        ];
        inputs.into_iter().flatten().collect()
    }

    fn places(&mut self) -> Vec<&mut PathBuf> {
        let places = [&mut self.output, &mut self.run, &mut self.resume];
        places.into_iter().flatten().collect()
    }

    fn with_begun(self, begun: Self) -> Self {
        Self {
            resume: self.resume,
            force: self.force,
            cache_dir: self.cache_dir,
            report: self.report,
            html: self.html,
            tui: self.tui,
            memory: self.memory,
            ignore_plan: self.ignore_plan,
            ..begun
        }
    }
}
