//! The sizes of a Fargate task: CPU and memory come in pairs (Amazon ECS Developer Guide, task definition parameters).

/// CPU units, of which 1,024 are a vCPU, and MiB of memory: a pair that Fargate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    cpu: u32,
    memory: u32,
}

/// Fargate has no such task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such CPU.
    #[error("Fargate has no task of {0} CPU units; it has {cpus}", cpus = cpus())]
    Cpu(u32),
    /// Not with this CPU.
    #[error("Fargate has no task of {cpu} CPU units and {memory} MiB; with that CPU it has {}", memories(*cpu))]
    Memory {
        /// CPU units.
        cpu: u32,
        /// MiB.
        memory: u32,
    },
}

/// CPU units; least, most and steps of memory in MiB.
const PAIRS: [(u32, [u32; 3]); 7] = [
    (256, [512, 2_048, 512]), // without 1,536
    (512, [1_024, 4_096, 1_024]),
    (1_024, [2_048, 8_192, 1_024]),
    (2_048, [4_096, 16_384, 1_024]),
    (4_096, [8_192, 30_720, 1_024]),
    (8_192, [16_384, 61_440, 4_096]),
    (16_384, [32_768, 122_880, 8_192]),
];

fn cpus() -> String {
    PAIRS.map(|(cpu, _)| cpu.to_string()).join(", ")
}

fn memories(cpu: u32) -> String {
    match PAIRS.iter().find(|(of, _)| *of == cpu) {
        Some((256, _)) => "512, 1024 or 2048".into(),
        Some((_, [least, most, step])) => format!("{least} to {most} in steps of {step}"),
        None => String::new(),
    }
}

impl Size {
    /// This pair, if there is it.
    pub fn new(cpu: u32, memory: u32) -> Result<Self, Error> {
        let (_, [least, most, step]) = PAIRS.iter().find(|(of, _)| *of == cpu).ok_or(Error::Cpu(cpu))?;
        let legal = (*least..=*most).contains(&memory) && memory.is_multiple_of(*step) && (cpu, memory) != (256, 1_536);
        if legal { Ok(Self { cpu, memory }) } else { Err(Error::Memory { cpu, memory }) }
    }

    /// CPU units: 1,024 are a vCPU.
    pub fn cpu(self) -> u32 {
        self.cpu
    }

    /// MiB of memory.
    pub fn memory(self) -> u32 {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pairs_that_fargate_has() {
        for (cpu, memory) in
            [(256, 512), (256, 2_048), (512, 3_072), (4_096, 30_720), (8_192, 20_480), (16_384, 122_880)]
        {
            assert!(Size::new(cpu, memory).is_ok(), "{cpu} {memory}");
        }
        for (cpu, memory) in [(256, 1_536), (256, 4_096), (512, 512), (1_024, 2_049), (4_096, 31_744), (8_192, 17_408)]
        {
            assert_eq!(Size::new(cpu, memory), Err(Error::Memory { cpu, memory }));
        }
        assert_eq!(Size::new(300, 512), Err(Error::Cpu(300)));
        let told = Size::new(1_024, 1_024).unwrap_err().to_string();
        assert!(told.ends_with("with that CPU it has 2048 to 8192 in steps of 1024"), "{told}");
    }
}
