//! Which instruction sets there are instances for, and which of them this machine has.

use std::fmt;

/// An instruction set that there are instances for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// The next, and tiles of brain floats for many rows.
    AmxBf16,
    /// AVX-512 with products of brain floats, and of bytes.
    Avx512Bf16,
    /// AVX-512 with products of bytes.
    Avx512Vnni,
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AArch64 with products of brain floats (`bf16`), and of bytes (`dotprod`).
    NeonBf16,
    /// AArch64 with products of bytes.
    NeonDot,
    /// AArch64.
    Neon,
    /// What the target always has.
    Portable,
}

impl Level {
    pub(crate) const ALL: [Level; 9] = [
        Level::AmxBf16,
        Level::Avx512Bf16,
        Level::Avx512Vnni,
        Level::Avx512,
        Level::Avx2,
        Level::NeonBf16,
        Level::NeonDot,
        Level::Neon,
        Level::Portable,
    ];

    /// The best of this machine.
    pub(crate) fn best() -> Level {
        Level::ALL.into_iter().find(|level| level.runs_here()).unwrap_or(Level::Portable)
    }

    /// Whether its products of brain floats round activations to brain floats as well.
    #[cfg(test)]
    pub(crate) fn narrows(self) -> bool {
        matches!(self, Level::AmxBf16 | Level::Avx512Bf16 | Level::NeonBf16)
    }

    /// Whether this machine has the instructions.
    pub(crate) fn runs_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx512 = || has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let avx2 = || has!("avx2") && has!("fma") && has!("f16c");
            match self {
                Level::AmxBf16 => Level::Avx512Bf16.runs_here() && super::bf16_amx::granted(),
                Level::Avx512Bf16 => Level::Avx512Vnni.runs_here() && has!("avx512bf16"),
                Level::Avx512Vnni => Level::Avx512.runs_here() && has!("avx512vnni"),
                Level::Avx512 => avx512() && avx2(),
                Level::Avx2 => avx2(),
                Level::NeonBf16 | Level::NeonDot | Level::Neon => false,
                Level::Portable => true,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            match self {
                Level::NeonBf16 => has!("dotprod") && has!("bf16"),
                Level::NeonDot => has!("dotprod"),
                Level::Neon | Level::Portable => true,
                Level::AmxBf16 | Level::Avx512Bf16 | Level::Avx512Vnni | Level::Avx512 | Level::Avx2 => false,
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Level::Portable
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::AmxBf16 => "AMX BF16",
            Level::Avx512Bf16 => "AVX-512 BF16",
            Level::Avx512Vnni => "AVX-512 VNNI",
            Level::Avx512 => "AVX-512",
            Level::Avx2 => "AVX2",
            Level::NeonBf16 => "NEON BF16",
            Level::NeonDot => "NEON with dot products",
            Level::Neon => "NEON",
            Level::Portable => "portable",
        })
    }
}
