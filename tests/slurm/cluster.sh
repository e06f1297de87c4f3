#!/usr/bin/env bash
# cluster.sh FOLDER PORT: a SLURM cluster of two nodes on this machine, for tests. It listens on PORT
# and the two after it; its processes are named in FOLDER/*.pid. Wants Debian's slurm-wlm and munge.
set -euo pipefail
folder=$1 port=$2 host=$(hostname -s)
mkdir -p "$folder"/{state,n1,n2,munge}
chmod 700 "$folder/munge"
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" \
    --log-file="$folder/munge/log" --pid-file="$folder/munge.pid" --seed-file="$folder/munge/seed"
cat >"$folder/slurm.conf" <<END
ClusterName=leanvit
SlurmctldHost=$host
SlurmctldPort=$port
AuthType=auth/munge
# a job that is queued again waits for as long as a credential lives, two minutes by default
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MaxArraySize=41
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/%n.pid
SlurmdLogFile=$folder/%n/log
SlurmdSpoolDir=$folder/%n
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2
PartitionName=all Nodes=n1,n2 Default=YES State=UP
END
slurmctld -f "$folder/slurm.conf"
slurmd -N n1 -f "$folder/slurm.conf"
slurmd -N n2 -f "$folder/slurm.conf"
