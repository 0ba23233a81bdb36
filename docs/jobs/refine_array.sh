#!/bin/bash
# Refine a list of cases in many Slurm tasks, each with its own part of the list and its own folder.
#
#   sbatch --array=1-100 refine_array.sh LIST OUTPUT [options of svldrl refine]
#
# A task that was stopped, however, goes on when it is started again: sbatch --array=17 ... does so for one of them,
# with COUNT=100 in its environment. Without Slurm: SLURM_ARRAY_TASK_ID=17 COUNT=100 bash refine_array.sh LIST OUTPUT
#
#SBATCH --job-name=refine
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60

set -euo pipefail

list=$1
output=$2
shift 2
part=$SLURM_ARRAY_TASK_ID
count=${COUNT:-$SLURM_ARRAY_TASK_COUNT}
export OMP_NUM_THREADS=1

exec svldrl refine --list "$list" --shard "$part/$count" --output "$output/part_$part" \
    --workers "${SLURM_CPUS_PER_TASK:-1}" "$@"
