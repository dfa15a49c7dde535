#!/bin/sh
# Compiles the detector's operators for VARIANT. The CUDA compiler comes from the package index in the version that torch was
# built with, and stays in the build stage with it: only the compiled operators go on.
set -eu
python=/opt/scanloop/bin/python
case "${VARIANT}" in
cpu)
    FORCE_CUDA=0 "$python" /build/train/build_mmcv.py
    ;;
cuda)
    "$python" -m venv /build/cuda
    /build/cuda/bin/pip install --require-hashes --no-deps -r /build/train/requirements-nvcc.txt
    CUDA_HOME=$(dirname "$(dirname "$(find /build/cuda -name nvcc -type f | head -n 1)")")
    export CUDA_HOME
    # The packages have libraries under lib with their version in the name; linkers look for lib64 and the plain name.
    [ -e "$CUDA_HOME/lib64" ] || ln -s lib "$CUDA_HOME/lib64"
    for library in "$CUDA_HOME"/lib/libcudart.so.*; do
        [ -e "$CUDA_HOME/lib/libcudart.so" ] || ln -s "$(basename "$library")" "$CUDA_HOME/lib/libcudart.so"
    done
    compiler=$("$CUDA_HOME/bin/nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    built=$("$python" -c 'import torch; print(torch.version.cuda)')
    if [ "$compiler" != "$built" ]; then
        echo "torch was built for CUDA $built, and the locked compiler is of CUDA $compiler. Lock it anew: see docs/images.md." >&2
        exit 64
    fi
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
