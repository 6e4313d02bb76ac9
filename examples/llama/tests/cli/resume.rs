//! Runs that are killed and go on.

use super::{command, fails, quantize, succeeds, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The files of a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn quiet(mut command: Command) -> Command {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits until a run has finished its first block.
fn wait_for_a_block(child: &mut Child, run: &Path) {
    let start = Instant::now();
    while !run.join("block-0000.safetensors").exists() {
        assert!(start.elapsed().as_secs() < 300 && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Numbers without a pattern, from a seed.
fn numbers(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    }
}

#[cfg(unix)]
#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    kill_and_resume("quantize", quantize(&[]));
}

/// With the blocks of E2E-AP in files.
#[cfg(unix)]
#[test]
fn a_killed_run_with_offload_ends_with_the_same_bytes() {
    kill_and_resume("quantize", quantize(&["--e2e-ap-epochs", "1", "--offload"]));
}

#[cfg(unix)]
#[test]
fn a_killed_tuning_ends_with_the_same_bytes() {
    let place = super::tune::Place::new();
    // More steps than there are between two savings.
    let flags = place.tune(&["--epochs", "10", "--lr", "1e-6"]);
    kill_and_resume("tune", flags.iter().map(String::as_str).collect());
}

/// Killed at random moments, by SIGKILL or asked to end, and resumed each time, a job ends with the bytes of one that was not.
/// `begin` are its flags without an output. `EQAT_KILLS` says how often; `tests/scripts/kill_and_resume.sh` does it a hundred times.
#[cfg(unix)]
fn kill_and_resume(job: &str, begin: Vec<&str>) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let kills = std::env::var("EQAT_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let start = Instant::now();
    succeeds(&[&begin, &["--output", text(&whole)][..]].concat());
    let took = start.elapsed();
    assert!(!dir.path().join("whole.run").exists());
    let expected = files(&whole);

    let (output, run) = (dir.path().join("killed"), dir.path().join("killed.run"));
    let begin = [&begin, &["--output", text(&output)][..]].concat();
    let resume = [job, "--resume", text(&run)];
    let is_run = || run.join("run.json").exists();
    let mut number = numbers(7);
    let (mut killed, mut resumed, mut finished) = (0, 0, 0);
    while killed < kills {
        let arguments = if is_run() { &resume[..] } else { &begin[..] };
        resumed += usize::from(is_run());
        let mut child = quiet(command(arguments)).spawn().unwrap();
        let moment = took.mul_f64(number() * 0.6);
        let deadline = Instant::now() + moment;
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= deadline {
                let signal = if number() < 0.8 {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                };
                kill(Pid::from_raw(child.id() as i32), signal).unwrap();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if ended.success() || (output.exists() && !is_run()) {
            // It was done before the moment came: another one.
            assert!(
                files(&output) == expected,
                "another result after {killed} kills"
            );
            fs::remove_dir_all(&output).unwrap();
            let _ = fs::remove_dir_all(&run);
            finished += 1;
        } else {
            let by_us = matches!(ended.code(), None | Some(130));
            assert!(by_us, "after {killed} kills: {ended}");
            killed += 1;
        }
    }
    let arguments = if is_run() { &resume[..] } else { &begin[..] };
    succeeds(arguments);
    println!("{killed} kills, {resumed} resumed, {finished} done before the moment came");
    assert!(files(&output) == expected, "a killed run ends elsewhere");
    assert!(!run.exists());
}

/// What a run cannot be resumed with, and that one is not begun over another.
#[test]
fn a_run_goes_on_as_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let (output, run) = (dir.path().join("packed"), dir.path().join("packed.run"));
    let arguments = quantize(&["--output", text(&output)]);
    let mut child = quiet(command(&arguments)).spawn().unwrap();
    wait_for_a_block(&mut child, &run);
    // Another process may not use it.
    let stderr = fails(&["quantize", "--resume", text(&run)]);
    assert!(stderr.contains("another process uses this run"), "{stderr}");
    child.kill().unwrap();
    child.wait().unwrap();

    let stderr = fails(&arguments);
    assert!(
        stderr.contains("packed.run: holds a run already"),
        "{stderr}"
    );
    assert!(
        stderr.contains("--resume") && stderr.contains("--force"),
        "{stderr}"
    );
    let resume = ["quantize", "--resume", text(&run)];
    let stderr = fails(&[&resume[..], &["--train-size", "9"]].concat());
    assert!(
        stderr.contains("--train-size is 9, but the run began with 8"),
        "{stderr}"
    );
    // What was not said is known as well.
    let stderr = fails(&[&resume[..], &["--dtype", "bf16"]].concat());
    assert!(
        stderr.contains("--dtype is \"bf16\", but the run began with \"f32\""),
        "{stderr}"
    );
    let stderr = fails(&["quantize", "--resume", text(dir.path())]);
    assert!(stderr.contains("holds no run"), "{stderr}");

    // A block file that has changed is named; one that is gone is made again.
    let block = run.join("block-0000.safetensors");
    let mut content = fs::read(&block).unwrap();
    let last = content.len() - 1;
    content[last] ^= 8;
    fs::write(&block, content).unwrap();
    let stderr = fails(&resume);
    assert!(
        stderr.contains("block-0000.safetensors: is not what was written"),
        "{stderr}"
    );
    fs::remove_file(&block).unwrap();

    // The same settings may be said again.
    let out = succeeds(&[&resume[..], &["--train-size", "8"]].concat());
    assert!(out.contains("e2e-ap") && out.contains("saved to"), "{out}");
    assert!(output.join("model.safetensors").exists() && !run.exists());
}

/// A final save that fails leaves a run that has the model.
#[cfg(unix)]
#[test]
fn a_save_that_fails_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let (output, run) = (dir.path().join("packed"), dir.path().join("kept"));
    let arguments = quantize(&["--output", text(&output), "--run", text(&run)]);
    let mut child = quiet(command(&arguments)).spawn().unwrap();
    wait_for_a_block(&mut child, &run);
    // Somebody puts something of theirs where the model is to go.
    fs::create_dir(&output).unwrap();
    fs::write(output.join("thesis.tex"), "mine").unwrap();
    let ended = child.wait().unwrap();
    assert!(!ended.success());
    assert_eq!(
        fs::read_to_string(output.join("thesis.tex")).unwrap(),
        "mine"
    );
    let rescued = dir.path().join("packed.rescued");
    let rescued = files(&rescued);
    fs::remove_dir_all(&output).unwrap();
    succeeds(&["quantize", "--resume", text(&run)]);
    assert!(files(&output) == rescued);
    // It was asked for by its name, so it stays.
    assert!(run.join("run.json").exists());
}

/// A small file system of its own, unmounted when it is dropped; `None` where this process may not mount one.
#[cfg(target_os = "linux")]
struct SmallDisk(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs", text(at)]);
        let mounted = quiet(mount).status().is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: no permission to mount a small disk");
        }
        mounted.then(|| SmallDisk(at.to_path_buf()))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg(&self.0);
        let _ = quiet(unmount).status();
    }
}

/// A disk that is full as the model is saved: the run has it, and saves it once there is room.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), "3m") else {
        return;
    };
    let (output, run) = (disk.0.join("packed"), dir.path().join("run"));
    let arguments = quantize(&["--output", text(&output), "--run", text(&run)]);
    let mut child = quiet(command(&arguments)).spawn().unwrap();
    wait_for_a_block(&mut child, &run);
    // There was room as it began.
    let filler = disk.0.join("filler");
    let _ = fs::write(&filler, vec![0; 8 << 20]);
    assert!(!child.wait().unwrap().success());
    assert!(!output.exists());
    let resume = ["quantize", "--resume", text(&run)];
    let stderr = fails(&resume);
    assert!(
        stderr.contains("free") || stderr.contains("No space"),
        "{stderr}"
    );
    fs::remove_file(&filler).unwrap();
    succeeds(&resume);
    assert!(output.join("model.safetensors").exists());
}

/// Activations on disk that are damaged under the run: it stops, says so, and ends as it would have when it is resumed.
#[cfg(unix)]
#[test]
fn damaged_activations_cost_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let cached = ["--method", "block-ap", "--cache-memory", "0"];
    let quantize = |output: &Path| -> Vec<String> {
        let small = [
            "quantize",
            "--train-size",
            "8",
            "--val-size",
            "4",
            "--seq-len",
            "32",
            "--epochs",
            "1",
        ];
        let arguments = small.iter().chain(&cached).map(|part| part.to_string());
        arguments
            .chain(["--output".to_string(), text(output).to_string()])
            .collect()
    };
    let run_it = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        command(&arguments)
    };
    let whole = dir.path().join("whole");
    assert!(quiet(run_it(&quantize(&whole))).status().unwrap().success());

    let (output, run) = (dir.path().join("damaged"), dir.path().join("damaged.run"));
    let mut child = run_it(&quantize(&output));
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let start = Instant::now();
    let mut damaged = false;
    while !damaged && start.elapsed().as_secs() < 300 {
        std::thread::sleep(Duration::from_millis(2));
        if !run.join("block-0000.safetensors").exists() {
            continue;
        }
        for entry in fs::read_dir(run.join("activations"))
            .into_iter()
            .flatten()
            .flatten()
        {
            // Cut short, as a disk that fails leaves it.
            let file = fs::File::options().write(true).open(entry.path());
            damaged |= file.is_ok_and(|file| file.set_len(100).is_ok());
        }
    }
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(damaged && !ended.status.success(), "{stderr}");
    assert!(
        stderr.contains("record") && stderr.contains("--resume"),
        "{stderr}"
    );
    succeeds(&["quantize", "--resume", text(&run)]);
    assert!(files(&output) == files(&whole));
}
