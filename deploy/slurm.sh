#!/bin/bash
# Trains a run on several machines under Slurm: sbatch deploy/slurm.sh RUN|RECIPE
# Rank 0 may be on any of the machines, so all of them must see the run folder and the vault's key.
#SBATCH --job-name=shuyuan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -euo pipefail

run=${1:?"Name a run folder or a recipe."}
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}

# One torchrun a machine; Slurm's TERM before the time is over reaches each, and the run is saved at one step.
exec srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --max-restarts=3 \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$head:29500" \
    -m shuyuan train "$run"
