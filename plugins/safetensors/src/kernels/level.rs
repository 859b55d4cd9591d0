//! Which instruction sets there are instances for, and which of them this machine has.

use std::fmt;

/// An instruction set that there are instances for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// AVX-512 with products of brain floats, and of bytes.
    Avx512Bf16,
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// What the target always has.
    Portable,
}

impl Level {
    pub(crate) const ALL: [Level; 4] = [Level::Avx512Bf16, Level::Avx512, Level::Avx2, Level::Portable];

    /// The best of this machine.
    pub(crate) fn best() -> Level {
        Level::ALL.into_iter().find(|level| level.runs_here()).unwrap_or(Level::Portable)
    }

    /// Whether this machine has the instructions.
    pub(crate) fn runs_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx512 = || has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let avx2 = || has!("avx2") && has!("fma") && has!("f16c");
            match self {
                Level::Avx512Bf16 => avx512() && avx2() && has!("avx512bf16") && has!("avx512vnni"),
                Level::Avx512 => avx512() && avx2(),
                Level::Avx2 => avx2(),
                Level::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Level::Portable
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Avx512Bf16 => "AVX-512 BF16",
            Level::Avx512 => "AVX-512",
            Level::Avx2 => "AVX2",
            Level::Portable => "portable",
        })
    }
}
