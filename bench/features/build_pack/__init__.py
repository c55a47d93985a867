"""Rebuild of the shipped pack from the packages that its images come from.

The versions below give the shipped bytes, file by file (Python 3.11 and Pillow 13.0; another Pillow version may encode
WebP with slightly different pixels). In an empty folder:

    npm install --ignore-scripts emojibase-data@17.0.0 @iconify-json/noto@1.2.9 @iconify-json/fluent-emoji@1.2.7 \
        @iconify-json/fluent-emoji-flat@1.2.6 @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/fxemoji@1.2.2 \
        @iconify-json/emojione@1.2.3 @iconify-json/twemoji@1.2.5 @iconify-json/flat-color-icons@1.2.3
    apt-get download openclipart-svg sweethome3d-furniture wordnet-base
    for package in *.deb; do dpkg -x "$package" debian; done
    pip download --no-deps animal-mnist==0.4 llama-index-core==0.14.25
    python -m zipfile -e animal_mnist-0.4-py3-none-any.whl animals
    python -m zipfile -e llama_index_core-0.14.25-py3-none-any.whl llama
    pip install resvg-py==0.5.0

(Debian 13 has openclipart-svg 1:0.18+dfsg-19, sweethome3d-furniture 1.8-1 and wordnet-base 1:3.0-39.)
Then, from the checkout, with the path of that folder for FOLDER (about 90 seconds on one core):

    python -m bench.features.build_pack --npm FOLDER/node_modules \
        --openclipart FOLDER/debian/usr/share/openclipart/svg \
        --sweethome3d FOLDER/debian/usr/share/sweethome3d/furniture \
        --animals FOLDER/animals/animal_mnist/data/Animal_MNIST --wordnet FOLDER/debian/usr/share/wordnet \
        --punkt FOLDER/llama/llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english --out pack

Every input is optional; files that need a missing one are skipped. The background photos come with scikit-image and
scikit-learn and need no input.
"""
