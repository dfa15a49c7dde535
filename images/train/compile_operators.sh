#!/bin/sh
# Compiles the detector's operators for VARIANT. The CUDA compiler is taken from the package index, in the version that torch was built with,
# and removed again: only the compiled operators stay.
set -eu
python=/opt/scanloop/bin/python
case "${VARIANT}" in
cpu)
    FORCE_CUDA=0 "$python" /build/train/build_mmcv.py
    ;;
cuda)
    version=$("$python" -c 'import torch; print(torch.version.cuda or "")')
    if [ -z "$version" ]; then
        echo "VARIANT=cuda, and the torch that was installed is a CPU build. Name an index with a CUDA build in TORCH_INDEX_URL, or VARIANT=cpu." >&2
        exit 64
    fi
    "$python" -m venv /build/cuda
    /build/cuda/bin/pip install "nvidia-cuda-nvcc==${version}.*" "nvidia-cuda-crt==${version}.*" "nvidia-nvvm==${version}.*" \
        "nvidia-cuda-runtime==${version}.*" "nvidia-cuda-cccl==${version}.*"
    CUDA_HOME=$(dirname "$(dirname "$(find /build/cuda -name nvcc -type f | head -n 1)")")
    export CUDA_HOME
    libraries=$("$python" -c 'import nvidia, os; print(os.path.dirname(list(nvidia.__path__)[0]))')
    CPATH=$(find "$libraries/nvidia" -type d -name include | tr '\n' ':')
    export CPATH
    FORCE_CUDA=1 "$python" /build/train/build_mmcv.py
    ;;
*)
    echo "VARIANT is cuda or cpu, not '${VARIANT}'." >&2
    exit 64
    ;;
esac
