# The environment of `make setup` in a container: docker build -t ltgate . && docker run -p 8888:8888 ltgate
FROM python:3.13-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /ltgate
# The packages first: a change of the code does not install them again.
COPY pyproject.toml environment.yml README.md LICENSE Makefile ./
COPY requirements requirements
COPY tools tools
COPY ltgate/__init__.py ltgate/__init__.py
RUN make setup
COPY . .
EXPOSE 8888
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--allow-root", "--no-browser"]
