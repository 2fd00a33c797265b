#!/bin/bash
# Train on several machines of a SLURM cluster; submit with: sbatch examples/slurm.sh
#
# One torchrun a machine starts one process a GPU. If a process dies, all of them start again (--max-restarts). If a
# machine dies, or the time is over, SLURM puts the job back into the queue (--requeue). The command is the same each
# time: --resume_or_start goes on from the last save.
#SBATCH --job-name=semask
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=semask-%j.log
set -euo pipefail

data=${DATA:-/shared/ADEChallengeData2016}
out=${OUT:-/shared/runs/semask_tiny_fpn} # on a disk that all machines share
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

export OMP_NUM_THREADS=8
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # in the store that restarts share, addresses of dead processes stay

srun --kill-on-bad-exit=1 torchrun \
  --nnodes "$SLURM_NNODES" \
  --nproc-per-node 4 \
  --max-restarts 3 \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$first:29500" \
  -m semask.cli train \
  --config ade20k/semask_tiny_fpn \
  --data.root "$data" \
  --data.workers 8 \
  --training.save_every 1000 \
  --out "$out" \
  --resume_or_start
