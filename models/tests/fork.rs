//! A process that is forked off after a first pass makes threads of its own, and the same vectors.
//!
//! A program without a harness: the fork has no threads but the one that called, so there must be none that holds a lock.

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    use qembed_kernels::cpu::CpuBackend;
    use qembed_kernels::cpu::isa::Isa;
    use qembed_models::gguf::Gguf;
    use qembed_models::synth::{Spec, write};
    use qembed_models::{Qwen3, Qwen3Runner, Runner, Text};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let dims = "tiny,layers=2,vocab=300,context=100".parse().unwrap();
    write(&Spec { dims, level: "Q4_K_M".parse().unwrap(), seed: 7, vocabulary: None }, &path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let tokens: Vec<u32> = (0..90).collect();
    let texts = [Text { tokens: &tokens, prefix: 40 }, Text { tokens: &tokens[..50], prefix: 40 }];
    let bits = |runner: &dyn Runner| -> Vec<u32> {
        runner.run(&texts, &|| true).unwrap().into_iter().map(f32::to_bits).collect()
    };

    for isa in Isa::all() {
        // More threads than most machines that test this have: some are asleep at the fork, some are not.
        let runner = Qwen3Runner::new(Qwen3::load(&gguf, CpuBackend::new(isa, 4), &[]).unwrap(), Some(1 << 20));
        let before = bits(&runner);
        // Twice, since the parent's own threads have to be whole after the first.
        for _ in 0..2 {
            // SAFETY: no other thread of this process is in a library.
            match unsafe { libc::fork() } {
                -1 => panic!("fork: {}", std::io::Error::last_os_error()),
                0 => {
                    // SAFETY: no pointers; a child that hangs ends.
                    unsafe { libc::alarm(60) };
                    let twice = || bits(&runner) == before && bits(&runner) == before;
                    let same = std::panic::catch_unwind(std::panic::AssertUnwindSafe(twice));
                    // SAFETY: ends the process at once, without what the parent will do itself (the folder).
                    unsafe { libc::_exit(if same.unwrap_or(false) { 0 } else { 1 }) }
                }
                child => {
                    let mut status = 0;
                    // SAFETY: `status` lives as long as the call.
                    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                    assert!(
                        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
                        "{}: status {status:#x}",
                        isa.name
                    );
                }
            }
            assert!(bits(&runner) == before, "{}: the parent", isa.name);
        }
        println!("{}: a fork has the same bits", isa.name);
    }
}
