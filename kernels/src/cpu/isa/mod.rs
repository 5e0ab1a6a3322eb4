//! Instruction-set tiers of the CPU backend: one table of functions each, chosen once at start-up.
