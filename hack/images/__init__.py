"""The project's images, built with Docker or buildah and named by their content. Standard library only."""
