//! What the processor could do at most: products of each tier from registers alone, on as many threads as asked for.
//!
//! `cargo run --release --example peak -- amx 2`: tier, threads. Prints billions of operations a second
//! (a multiplication and an addition are two), the sum over all threads, the median of five runs of 0.2 s.

use qembed_kernels::cpu::isa::Isa;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    // Also asks for permission to use AMX.
    let isa = Isa::select(arguments.next().as_deref())?;
    let threads = arguments.next().map_or(Ok(1), |count| count.parse::<usize>())?;
    #[cfg(target_arch = "x86_64")]
    println!("{:.0}", x86::billions(isa, threads)?);
    #[cfg(not(target_arch = "x86_64"))]
    return Err(format!("no loop for {} with {threads} threads is written", isa.name).into());
    #[cfg(target_arch = "x86_64")]
    Ok(())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use qembed_kernels::cpu::isa::Isa;
    use std::arch::asm;
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    /// Turns of a loop between two looks at the clock.
    const TURNS: u64 = 100_000;

    pub(super) fn billions(isa: &Isa, threads: usize) -> Result<f64, String> {
        // What one turn of a tier's loop computes: instructions × operations of each.
        let (turns, operations): (unsafe fn(u64), u64) = match isa.name {
            "avx2" => (avx2, 8 * 64),
            "avxvnni" => (avxvnni, 12 * 64),
            "avx512vnni" => (avx512vnni, 12 * 128),
            "amx" => (amx, 4 * 2 * 16 * 16 * 32),
            other => return Err(format!("no loop for {other} is written")),
        };
        let run = |start: &Barrier| {
            start.wait();
            let (begin, mut done) = (Instant::now(), 0);
            while begin.elapsed() < Duration::from_millis(200) {
                // SAFETY: `isa` is the proof that the processor and the operating system offer these instructions.
                unsafe { turns(TURNS) };
                done += TURNS;
            }
            (done * operations) as f64 / begin.elapsed().as_secs_f64() / 1e9
        };
        let mut rates: Vec<f64> = (0..5)
            .map(|_| {
                let start = Barrier::new(threads);
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(&start))).collect();
                    threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
                })
            })
            .collect();
        rates.sort_unstable_by(f64::total_cmp);
        Ok(rates[rates.len() / 2])
    }

    /// A loop of `turns` turns whose instructions are written out; every vector and tile register is lost.
    macro_rules! turns {
        ($turns:expr, $($line:expr),+ $(,)?) => {
            // SAFETY: the caller's promise; nothing but registers is touched.
            unsafe {
                asm!(
                    "2:", $($line,)+ "dec rcx", "jnz 2b",
                    inout("rcx") $turns => _, clobber_abi("sysv64"), options(nomem, nostack),
                )
            }
        };
    }

    /// Eight chains of three instructions.
    unsafe fn avx2(turns: u64) {
        macro_rules! chain {
            ($sum:literal, $product:literal) => {
                concat!(
                    "vpmaddubsw ymm",
                    $product,
                    ", ymm13, ymm14\n",
                    "vpmaddwd ymm",
                    $product,
                    ", ymm",
                    $product,
                    ", ymm15\n",
                    "vpaddd ymm",
                    $sum,
                    ", ymm",
                    $sum,
                    ", ymm",
                    $product
                )
            };
        }
        turns!(
            turns,
            chain!(0, 8),
            chain!(1, 9),
            chain!(2, 10),
            chain!(3, 11),
            chain!(4, 8),
            chain!(5, 9),
            chain!(6, 10),
            chain!(7, 11)
        );
    }

    /// Twelve sums, more than latency times ports.
    macro_rules! twelve {
        ($turns:expr, $prefix:literal, $register:literal) => {
            twelve!($turns, $prefix, $register, 0 1 2 3 4 5 6 7 8 9 10 11)
        };
        ($turns:expr, $prefix:literal, $register:literal, $($sum:literal)+) => {
            turns!($turns, $(concat!($prefix, "vpdpbusd ", $register, $sum, ", ", $register, "14, ", $register, "15")),+)
        };
    }

    unsafe fn avxvnni(turns: u64) {
        twelve!(turns, "{{vex}} ", "ymm");
    }

    unsafe fn avx512vnni(turns: u64) {
        twelve!(turns, "", "zmm");
    }

    /// Four tiles of sums, two of each operand.
    unsafe fn amx(turns: u64) {
        #[repr(align(64))]
        struct Shape([u8; 64]);
        let mut shape = Shape([0; 64]);
        shape.0[0] = 1; // palette
        for tile in 0..8 {
            shape.0[16 + 2 * tile] = 64; // bytes a row
            shape.0[48 + tile] = 16; // rows
        }
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &shape, options(readonly, nostack)) };
        turns!(
            turns,
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7"
        );
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}
