# docker build -t fid_med .
# docker run --rm -v "$PWD:/data" -w /data fid_med compute_fid.py REAL GENERATED
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir "/src[dicom]" && rm -r /src
# The extractors that are downloaded, and TensorFlow Datasets, are written there.
ENV HOME=/tmp
CMD ["compute_fid.py", "--help"]
